"""Checks a commit message, as the commit-msg hook: `python tools/commit_message.py FILE`.

A history without reasons cannot be searched for them, so every commit says why; a subject longer
than a line is cut off by most tools that show it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SUBJECT_WIDTH, BODY_WIDTH = 72, 80
SCISSORS = "# ------------------------ >8 ------------------------"
# written by git, or to be melted into another commit
MADE_BY_GIT = ("Merge ", "Revert ", "fixup! ", "squash! ", "amend! ")
TRAILER = re.compile(r"[A-Z][\w-]+: \S")
# first words of subjects that tell what was done, or what the commit does, instead of asking for it
NOT_IMPERATIVE = re.compile(
    r"(?i)(?!bring|embed|exceed|feed|need|proceed|seed|shed|speed|string|process|pass|address|"
    r"focus|access|discuss|express|compress|assess|bias|guess|dismiss|canvas|alias)"
    r"[a-z]+(ed|ing|[^s']s)$"
)


def problems(message: str) -> list[str]:
    """Return what is wrong with a message; git's own comments do not count."""
    lines = message.split(SCISSORS)[0].splitlines()
    subject, *body = [line.rstrip() for line in lines if not line.startswith("#")] or [""]
    if subject.startswith(MADE_BY_GIT):
        return []
    return [*_subject_problems(subject), *_body_problems(body)]


def _subject_problems(subject: str) -> list[str]:
    found: list[str] = []
    if not subject:
        return ["the subject is missing"]
    if len(subject) > SUBJECT_WIDTH:
        found.append(f"the subject has {len(subject)} characters, at most {SUBJECT_WIDTH} fit")
    if subject.endswith("."):
        found.append("the subject ends with a period")
    first = subject.split()[0]
    if not first[0].isupper() and first.isalpha():
        found.append("the subject begins with a small letter")
    if NOT_IMPERATIVE.match(first):
        found.append(f"the subject is not imperative: {first!r} (as in: Fix the reader)")
    return found


def _body_problems(body: list[str]) -> list[str]:
    reasons = [line for line in body if line and not TRAILER.match(line)]
    if not reasons:
        return ["there is no body: say why, not what"]
    found: list[str] = []
    if body[0]:
        found.append("the line below the subject is not empty")
    # what cannot be wrapped (a link, a traceback) is indented or without a space
    if any(len(line) > BODY_WIDTH and " " in line.strip() and line[0] != " " for line in reasons):
        found.append(f"a line of the body has more than {BODY_WIDTH} characters")
    return found


def main(path: str) -> int:
    """Print the problems of the message in a file; 1 when there is any."""
    found = problems(Path(path).read_text(encoding="utf-8"))
    for each in found:
        print(f"commit message: {each}", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
