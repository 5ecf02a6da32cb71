"""Bring the message catalogues up to date with the source and compile them: new texts come in
untranslated, those gone go out.

make catalogues
"""

from __future__ import annotations

import io
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "seismograd"
KEYWORDS = {"say": None, "mark": None, "translate": None}


def template() -> Catalog:
    """Every text in the source."""
    with (ROOT / "babel.cfg").open(encoding="utf-8") as file:
        methods, options = parse_mapping_cfg(file)
    catalog = Catalog()
    for _, _, message, *_ in extract_from_dir(
        PACKAGE, method_map=methods, options_map=options, keywords=KEYWORDS
    ):
        catalog.add(message)
    return catalog


def update(po: Path, source: Catalog) -> None:
    """Rewrite a catalogue, its header as it stands, and compile it."""
    text = po.read_text(encoding="utf-8")
    catalog = read_po(io.StringIO(text))
    # A guessed translation would look like a finished one.
    catalog.update(source, no_fuzzy_matching=True)
    written = io.BytesIO()
    write_po(written, catalog, width=0, no_location=True, ignore_obsolete=True)
    header, body = text.partition("\n\n")[0], written.getvalue().decode().partition("\n\n")[2]
    po.write_text(f"{header}\n\n{body}", encoding="utf-8")
    with po.with_suffix(".mo").open("wb") as compiled:
        write_mo(compiled, catalog)
    missing = sum(1 for message in catalog if message.id and not message.string)
    print(f"{po.relative_to(ROOT)}: {len(catalog)} texts, {missing} without a translation")


if __name__ == "__main__":
    source = template()
    for po in sorted((PACKAGE / "locale").glob("*/LC_MESSAGES/*.po")):
        update(po, source)
