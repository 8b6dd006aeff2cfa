"""The ways into other libraries: one module each, imported only when its library is there."""
