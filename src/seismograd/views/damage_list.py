"""What is wrong with the files of a record, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from seismograd.i18n import mark, translate
from seismograd.record import strict_json
from seismograd.record.inspection import Damage, DamageKind, Inspection
from seismograd.views.fitting_table import FittingTable, TableColumn
from seismograd.views.run_condition import note_line
from seismograd.views.values import count, short_path

_WORDS = {
    DamageKind.ALTERED: mark("bytes that are not what was written"),
    DamageKind.CUT: mark("bytes that are missing"),
    DamageKind.UNKNOWN: mark("bytes without a checksum"),
    DamageKind.LINE: mark("a line that is damaged or not whole"),
    DamageKind.LOG: mark("damaged entries of the checksums"),
    DamageKind.CLOSED: mark("a branch that cannot be opened"),
}


def render(inspection: Inspection) -> RenderableType:
    """Return a row for each damage, or a line that there is none."""
    path = str(short_path(inspection.run.path))
    damage = inspection.all_damage
    if damage:
        table = FittingTable(damage, (FILE, WHAT, FROM, TO), ())
        reasons = [note_line(each.reason.render()) for each in damage if each.reason is not None]
        return Group(table, *reasons, *_remarks(inspection))
    if not inspection.num_checked:
        line = translate("{path}: nothing is damaged as far as can be seen").format(path=path)
    else:
        line = translate("{path}: nothing is damaged; bytes compared: {bytes}").format(
            path=path, bytes=count(inspection.all_checked)
        )
    return Group(Text(line), *_remarks(inspection))


def as_json(inspection: Inspection) -> str:
    """Return the run, how many bytes were compared, and an object for each damage."""
    content = {
        "run": str(inspection.run.path),
        "bytes_compared": inspection.all_checked,
        "damage": [
            {
                "file": each.file,
                "branch": each.branch,
                "kind": each.kind.value,
                "from": each.start,
                "to": each.stop,
            }
            for each in inspection.all_damage
        ],
    }
    return strict_json.dumps(content, indent=2).decode()


def _remarks(inspection: Inspection) -> Sequence[Text]:
    if inspection.num_checked or not inspection.run.num_rows:
        return ()
    return (
        note_line(
            translate(
                "the record has no checksums, as those of earlier versions: numbers that are "
                "wrong cannot be told from others"
            )
        ),
    )


FILE = TableColumn[Damage](mark("file"), "left", lambda damage: damage.file)
WHAT = TableColumn[Damage](mark("damage"), "left", lambda damage: translate(_WORDS[damage.kind]))
FROM = TableColumn[Damage](mark("from"), "right", lambda damage: count(damage.start))
TO = TableColumn[Damage](mark("to"), "right", lambda damage: count(damage.stop))
