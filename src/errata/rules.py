"""The names under which secrets stand, and how a name is compared with them.

A name is compared by its words (`userPassword2` is *user*, *password*), never by a part of a
word. A sensitive field anywhere in it makes it sensitive, unless a rule below excuses it: what
is unknown is masked rather than shown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SENSITIVE_FIELDS: frozenset[str] = _names(
    # What proves who one is.
    "password passwords passwd pwd passphrase pass passcode passkey htpasswd password_hash "
    "secret secrets client_secret app_secret shared_secret webhook_secret secret_answer "
    "security_answer credential credentials cred creds mnemonic seed_phrase "
    "passwort kennwort contraseña contrasena senha mot_de_passe wachtwoord "
    "пароль 密码 密碼 パスワード 비밀번호 "
    # What stands for it afterwards.
    "token tokens access_token refresh_token id_token auth_token bearer_token api_token "
    "csrf_token csrfmiddlewaretoken authenticity_token reset_token bearer jwt jwts "
    "authorization auth auth_header auth_code authorization_code code_verifier oauth_verifier "
    "client_assertion saml_response saml_assertion aspxauth magic_link "
    "csrf xsrf cookie cookies set_cookie "
    "session session_id session_key session_token session_data session_cookie sid sessid "
    "phpsessid jsessionid connect_sid "
    # One-time and short codes.
    "otp totp hotp otp_code mfa_code 2fa 2fa_code tfa_code two_factor_code one_time_code "
    "verification_code security_code recovery_code recovery_codes backup_code backup_codes "
    "reset_code access_code pin pin_code "
    # Keys. A bare `key` is a dictionary's, a cache's or a table's.
    "api_key api_keys x_api_key access_key access_keys access_key_id secret_key secret_access_key "
    "private_key private_keys signing_key encryption_key decryption_key master_key account_key "
    "shared_key shared_access_key auth_key session_secret consumer_key app_key application_key "
    "service_account_key service_role_key subscription_key license_key activation_key "
    "ssh_key deploy_key fernet_key hmac_key aes_key jwt_key signature sig hmac "
    # Addresses that hold a password.
    "dsn database_url database_uri db_url db_uri redis_url mongo_url mongo_uri mongodb_uri "
    "broker_url amqp_url postgres_url connection_string conn_str webhook_url "
    # Money and people.
    "credit_card debit_card card_number card_no cc_number cvv cvc card_code primary_account_number "
    "iban bank_account account_number routing_number "
    "ssn social_security social_security_number national_id passport_number"
)
"""The default field names: snake_case, and every other spelling of the same words."""

ONLY_AS_LAST_WORD: frozenset[str] = _names(
    "pass pin session sid auth csrf xsrf signature sig hmac dsn cred"
)
"""Fields that mean a secret at the end of a name only: `db_pass` but not `pass_rate`."""

RUN_TOGETHER_ENDINGS: tuple[str, ...] = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "cookie",
    "sessid",
    "sessionid",
    "credential",
    "credentials",
)
"""Fields that no other English word ends with: `dbpassword` and `usertoken` are run together."""

HARMLESS_FIRST_WORDS: frozenset[str] = _names(
    "is has can should must needs require requires required allow allows enable disable show "
    "hide skip max min num n total"
)
"""A name that starts so asks or counts: `has_password`, `max_tokens`."""

HARMLESS_LAST_WORDS: frozenset[str] = _names(
    # How many, how long, how big.
    "count counts total length len size limit limits max min index rate strength score used "
    "usage remaining entropy "
    # When.
    "at age ttl date time timeout expiry expires expiration expired since until lifetime "
    "seconds minutes hours days s ms created updated changed started "
    # What about it.
    "policy policies rule rules requirements type types kind name names format version scheme "
    "mode method methods provider backend backends engine service required enabled disabled "
    "valid invalid verified status errors error exists present help label placeholder "
    "description prefix suffix algorithm algorithms alg issuer audience model validator "
    "validators hasher hashers origins domain samesite secure httponly endpoint maker factory "
    "manager middleware"
)
"""A name that ends so is about a secret, and holds none: `password_policy`, `token_ttl_seconds`."""

HARMLESS_PHRASES: frozenset[str] = _names(
    # Language models count tokens; lists are read page by page.
    "prompt_tokens completion_tokens input_tokens output_tokens cached_tokens reasoning_tokens "
    "audio_tokens special_tokens stop_tokens new_tokens page_token sync_token "
    # OAuth endpoints.
    "token_url token_uri authorization_url authorization_endpoint"
)
"""Two words that together are no secret although the second alone is."""

MAX_NAME = 256
"""Characters of a name. What is longer is nobody's field, and counts as sensitive unread."""

MAX_VERDICTS = 2048
"""Names remembered. Callers choose some of them: query, form and JSON fields."""


class Verdicts(dict[object, bool]):
    """Whether a name is sensitive: each name is judged once, later a dict look-up answers.

    Names are text or bytes; any other object is no name. Holds at most `MAX_VERDICTS` names.

    Args:
        fields: sensitive names, in any spelling.
        allow: whole names that are not, in any spelling.

    Raises:
        TypeError: *fields* or *allow* is no collection of strings.
    """

    __slots__ = ("_allow", "_endings", "_fields", "_longest")

    def __init__(self, fields: Iterable[str], allow: Iterable[str] = ()) -> None:
        super().__init__()
        split = [_words(field) for field in _strings("fields", fields)]
        self._fields = frozenset(map("".join, split))
        self._longest = max(map(len, split), default=0)
        self._allow = frozenset("".join(_words(name)) for name in _strings("allow", allow))
        self._endings = tuple(ending for ending in RUN_TOGETHER_ENDINGS if ending in self._fields)

    def __missing__(self, name: object) -> bool:
        text = _text(name)
        if text is None:
            return False
        if len(text) > MAX_NAME:
            return True
        verdict = self._judge(text)
        if type(name) in (str, bytes):  # a subclass may hold anything, and would be kept alive
            if len(self) >= MAX_VERDICTS:
                self.clear()
            self[name] = verdict
        return verdict

    def _judge(self, name: str) -> bool:
        words = _words(name)
        whole = "".join(words)
        if whole in self._allow or whole in self._fields:
            return whole not in self._allow
        for start, word in enumerate(words):
            if word.endswith(self._endings) and not _excused(words, start, start + 1):
                return True
            for stop in range(start + 1, min(start + self._longest, len(words)) + 1):
                if "".join(words[start:stop]) in self._fields and not _excused(words, start, stop):
                    return True
        return False


_WORD = re.compile(r"(?<![^\W_])\d+[a-z]+|[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+")


def _text(name: object) -> str | None:
    if isinstance(name, str):
        return str.__str__(name)
    if isinstance(name, bytes):
        return bytes.__getitem__(name, slice(MAX_NAME + 1)).decode("latin-1")
    return None


def _words(name: str) -> list[str]:
    """Split at case, punctuation and digits; digits count at a word's start (`2fa`, but `cvv2`)."""
    if name[:2] in ("b'", 'b"'):  # bytes, as Python writes them
        name = name[2:-1]
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
    return [word.casefold() for word in _WORD.findall(name)] or [name.casefold()]


def _excused(words: list[str], start: int, stop: int) -> bool:
    """Whether the name is merely about the secret that `words[start:stop]` names."""
    inside = stop < len(words)
    return (
        (inside and words[-1] in HARMLESS_LAST_WORDS)
        or (inside and "".join(words[start:stop]) in ONLY_AS_LAST_WORD)
        or (start > 0 and words[0] in HARMLESS_FIRST_WORDS)
        or (start > 0 and "_".join(words[start - 1 : stop]) in HARMLESS_PHRASES)
        or "_".join(words[start : stop + 1]) in HARMLESS_PHRASES
    )


def _strings(label: str, values: Iterable[str]) -> list[str]:
    names = [] if isinstance(values, (str, bytes)) else list(values)
    if isinstance(values, (str, bytes)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{label}={values!r} is no collection of names: give {label}=('token',)")
    return names
