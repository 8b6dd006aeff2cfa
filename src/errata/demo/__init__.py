"""The demo: a shop that fails, the server it runs on, and the tour that checks what comes of it."""
