"""Which SQL a tenant's session refuses to send, read by PostgreSQL's own lexical rules.

What is refused would end the transaction that names the tenant, change the tenant or a limit of the
session, take a lock on a whole table, or reach the sessions of others. A parser is not needed for
that: statements of these kinds begin with their keyword, and functions are called by their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

CACHED_VERDICTS: Final = 2_048
CACHED_LENGTH: Final = 8_192  # characters; longer ones are read each time

TRANSACTION: Final = (
    "the setting that names the tenant ends with its transaction, so a transaction is not begun or "
    "ended in SQL. Use the session's commit() and rollback()."
)
SETTING: Final = (
    "the tenant, the role, the limits and the way a session reads SQL are not set in SQL. "
    "Open a tenant_session(), and give it limits=SessionLimits(...) for what takes long."
)
LOCK: Final = (
    "a lock on a table stops every tenant. Lock the tenant's own rows: select ... for update."
)
ROLE: Final = (
    "roles, databases and the server are altered by their owner, not in a tenant's session."
)
CODE: Final = (
    "a code block or a function hides what it does from the checks of a session. "
    "Send its statements one by one, or make the function in a migration."
)
CONNECTION: Final = (
    "a connection belongs to the pool, and its channels to everybody: nothing listens or discards "
    "in a tenant's session."
)
SERVER_FILE: Final = "COPY reads STDIN and writes STDOUT here: no files or programs of the server."
REACH: Final = (
    "this function runs SQL that is not checked, or ends the sessions of others. "
    "Send the SQL itself."
)
UNREADABLE: Final = (
    'this statement has a NUL, a quote or comment without an end, or a name in U&"...", and is '
    "not read here as it might be on the server. Write it plainly."
)

_PROTECTED: Final = frozenset(
    {
        "all",  # RESET ALL
        "authorization",  # SET SESSION AUTHORIZATION
        "session",
        "session_authorization",
        "role",
        # What decides how the server reads the next statement.
        "client_encoding",
        "names",
        "standard_conforming_strings",
        "backslash_quote",
    }
)
_PROTECTED_KINDS: Final = re.compile(r"app\.|.*_timeout\Z", re.DOTALL)
_REACHING: Final = frozenset(
    {
        "query_to_xml",
        "query_to_xmlschema",
        "query_to_xml_and_xmlschema",
        "cursor_to_xml",
        "ts_stat",
        "ts_rewrite",
        # Of the role, and so of every tenant.
        "pg_terminate_backend",
        "pg_cancel_backend",
    }
)
_SETTER: Final = "set_config"
_SETTINGS_VIEW: Final = "pg_settings"  # an UPDATE of it is a SET
_BY_FIRST_WORD: Final = {
    "begin": TRANSACTION,
    "start": TRANSACTION,
    "commit": TRANSACTION,
    "end": TRANSACTION,
    "abort": TRANSACTION,
    "lock": LOCK,
    "do": CODE,
    "discard": CONNECTION,
    "listen": CONNECTION,
}
_ALTERED: Final = {
    "role": ROLE,
    "user": ROLE,
    "group": ROLE,
    "database": ROLE,
    "system": ROLE,
    "function": CODE,
    "procedure": CODE,
    "routine": CODE,
}
_CREATED: Final = frozenset({"function", "procedure"})

# The server's white space and letters, and no others of Unicode.
_SPACE: Final = r" \t\n\r\f\v"
_LETTER: Final = r"A-Za-z_\x80-\U0010ffff"
_TOKEN: Final = re.compile(
    rf"""
      (?P<space>    [{_SPACE}]+ | --[^\n\r]* )
    | (?P<comment>  /\* )
    | (?P<escaped>  [eE]' )
    | (?P<unicode>  [uU]&" )
    | (?P<word>     [{_LETTER}][{_LETTER}0-9$]* )
    | (?P<quoted>   "(?:[^"]|"")*" )
    | (?P<string>   '(?:[^']|'')*' )
    | (?P<other>    [0-9]+ | \$[0-9]+ )
    | (?P<dollar>   \$(?:[{_LETTER}][{_LETTER}0-9]*)?\$ )
    | (?P<open>     ["'] )
    | (?P<symbol>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_ESCAPED_BODY: Final = re.compile(r"(?:[^'\\]|\\.|'')*'", re.DOTALL)
# A string goes on in the next quotes if a line ends between them, by the rules of the first.
_CONTINUED: Final = re.compile(
    rf"(?:[ \t\f\v]|--[^\n\r]*)*[\n\r](?:[{_SPACE}]+|--[^\n\r]*[\n\r])*'", re.DOTALL
)

# One statement, whose first word and mentions say at a glance that nothing is refused. All that is
# refused has one of these in it, whatever is around it.
_PLAIN: Final = re.compile(
    rf"[{_SPACE}(]*(?:select|insert|update|delete|with|values|savepoint|release)[{_SPACE}(]",
    re.IGNORECASE,
)
_SUSPECT: Final = re.compile(
    "|".join([";", "\0", '[uU]&"', _SETTER, _SETTINGS_VIEW, *sorted(_REACHING)]), re.IGNORECASE
)
# As the driver finds them: what is replaced before the statement is sent.
_PLACEHOLDER: Final = re.compile(r"%(?:\([^)]+\).|.)")

_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class _Token(NamedTuple):
    kind: str  # "word", "name" (in quotes), "literal", "symbol"
    text: str  # a word in lower case; what is in the quotes of a name or a plain literal

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.text in words

    def names(self, *names: str) -> bool:
        """Whether it is one of `names` where the server looks for an object's name."""
        return self.kind in ("word", "name") and self.text in names


class _Unreadable(Exception):
    """The server could read it otherwise."""


def refusal(statement: str, *, placeholders: bool) -> str | None:
    """Says why `statement` is not sent for a tenant; None: it is.

    Args:
        statement: one or more, apart by semicolons.
        placeholders: whether the driver puts parameters into it.
    """
    if _PLAIN.match(statement) and not _SUSPECT.search(statement):
        return None
    if len(statement) > CACHED_LENGTH:
        return _read(statement, placeholders)
    return _read_once(statement, placeholders)


def _read(statement: str, placeholders: bool) -> str | None:
    if placeholders:
        statement = _PLACEHOLDER.sub(
            lambda found: "%" if found.group() == "%%" else "$1", statement
        )
    try:
        if "\0" in statement:  # the server reads up to it
            raise _Unreadable
        for tokens in _statements(statement):
            reason = _refused(tokens)
            if reason is not None:
                return reason
    except _Unreadable:
        return UNREADABLE
    return None


_read_once = lru_cache(CACHED_VERDICTS)(_read)


def _statements(text: str) -> Iterator[list[_Token]]:
    tokens: list[_Token] = []
    for token in _tokens(text):
        if token == _Token("symbol", ";"):
            yield tokens
            tokens = []
        else:
            tokens.append(token)
    yield tokens


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None  # the last alternative takes whatever there is
        kind, said = str(found.lastgroup), found.group()
        at = found.end()
        if kind == "space":
            continue
        if kind == "comment":
            at = _comment_end(text, at)
        elif kind == "escaped":
            at = _escaped_end(text, at)
            yield _Token("other", "")  # no literal that is taken at its word
        elif kind == "word":
            yield _Token("word", said.translate(_ASCII_LOWER))
        elif kind == "quoted":
            yield _Token("name", said[1:-1].replace('""', '"'))
        elif kind == "string":
            yield _Token("literal", said[1:-1].replace("''", "'"))
        elif kind == "dollar":
            at = text.find(said, at) + len(said)
            if at < len(said):
                raise _Unreadable
            yield _Token("other", "")
        elif kind in ("unicode", "open"):
            raise _Unreadable
        else:
            yield _Token(kind, said)


def _comment_end(text: str, at: int) -> int:
    """Where the comment ends that is open at `at`; comments are nested."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, at)
        if edge is None:
            raise _Unreadable
        depth += 1 if edge.group() == "/*" else -1
        at = edge.end()
    return at


def _escaped_end(text: str, at: int) -> int:
    """Where the string ends that has begun with E' before `at`."""
    while True:
        body = _ESCAPED_BODY.match(text, at)
        if body is None:
            raise _Unreadable
        more = _CONTINUED.match(text, body.end())
        if more is None:
            return body.end()
        at = more.end()


def _refused(tokens: Sequence[_Token]) -> str | None:
    begin = 0
    while begin < len(tokens) and tokens[begin] == _Token("symbol", "("):
        begin += 1
    return _refused_command(tokens[begin:]) or _refused_mention(tokens)


def _refused_command(tokens: Sequence[_Token]) -> str | None:
    if not tokens or tokens[0].kind != "word":
        return None
    first, rest = tokens[0].text, tokens[1:]
    if first in _BY_FIRST_WORD:
        return _BY_FIRST_WORD[first]
    if first == "rollback":
        return None if _to_savepoint(rest) else TRANSACTION
    if first == "prepare":
        return TRANSACTION if rest and rest[0].is_word("transaction") else None
    if first in ("set", "reset"):
        return SETTING if _is_protected(_setting(rest)) else None
    if first == "alter":
        return _ALTERED.get(rest[0].text) if rest and rest[0].kind == "word" else None
    if first == "create":
        made = [token for token in rest[:3] if not token.is_word("or", "replace")]
        return CODE if made and made[0].is_word(*_CREATED) else None
    if first == "copy":
        return None if _copies_here(rest) else SERVER_FILE
    return None


def _to_savepoint(rest: Sequence[_Token]) -> bool:
    if rest and rest[0].is_word("work", "transaction"):
        rest = rest[1:]
    return bool(rest) and rest[0].is_word("to")


def _setting(rest: Sequence[_Token]) -> str:
    """The name of the setting in SET [SESSION | LOCAL] name ...; empty where there is none."""
    if len(rest) > 1 and rest[0].is_word("session", "local") and rest[1].kind in ("word", "name"):
        rest = rest[1:]
    name = ""
    for token in rest:
        if token.kind not in ("word", "name") and token != _Token("symbol", "."):
            break
        if name and not name.endswith(".") and token.text != ".":
            break
        name += token.text
    return name


def _is_protected(name: str) -> bool:
    name = name.translate(_ASCII_LOWER)  # of settings also in quotes
    return not name or name in _PROTECTED or _PROTECTED_KINDS.match(name) is not None


def _copies_here(rest: Sequence[_Token]) -> bool:
    depth = 0
    for token, after in pairwise(rest):
        if token.kind == "symbol":
            depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.is_word("from", "to"):
            return after.is_word("stdin", "stdout")
    return False


def _refused_mention(tokens: Sequence[_Token]) -> str | None:
    for place, token in enumerate(tokens):
        if token.names(*_REACHING):
            return REACH
        if token.names(_SETTER) and not _sets_what_is_free(tokens[place + 1 : place + 4]):
            return SETTING
        if token.names(_SETTINGS_VIEW) and any(each.is_word("update") for each in tokens):
            return SETTING
    return None


def _sets_what_is_free(call: Sequence[_Token]) -> bool:
    """Whether set_config is called with the plain name of a setting that is not protected."""
    return (
        len(call) == 3
        and call[0] == _Token("symbol", "(")
        and call[1].kind == "literal"
        and call[2] == _Token("symbol", ",")
        and not _is_protected(call[1].text)
    )
