"""Pages of the site as text: pure functions from the manifest to HTML.

Everything from a definition is escaped where it is put in; the templates mark nothing as safe.
A page loads only the site's own files, by relative links, and says so in its security policy.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from neuralake.manifest import Database, Manifest, StreamFacts, Table, to_json
from neuralake.site import words
from neuralake.site.addresses import INDEX, database_page, relative, table_page
from neuralake.site.highlight import highlight
from neuralake.site.prose import is_web_url, prose, summary
from neuralake.site.snippets import snippets

__all__ = ["render"]

# `'self'` means nothing for `file:` in some browsers, hence the scheme beside it; a page that came
# over HTTP can load nothing from `file:`, so there it grants nothing.
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; "
    "img-src 'self' file:; base-uri 'none'; form-action 'none'"
)
SIBLINGS_MAX = 60


@dataclass(frozen=True, slots=True)
class _Fact:
    name: str
    value: str = ""
    note: str = ""
    time_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    value: str
    url: str = ""
    is_code: bool = False


def render(manifest: Manifest) -> dict[str, bytes]:
    """Every file of the site by relative name, in the order in which to write them.

    What links comes after what it links to: assets, tables, databases, and the index last.
    """
    assets, done = _assets(manifest)
    page = partial(_page, manifest, assets)
    for database in manifest.databases:
        for table in database.tables:
            name = table_page(table.database, table.name)
            done[name] = page(
                name,
                "table.html",
                heading=f"{database.name}.{table.name}",
                about=summary(table.description),
                table=table,
                database=database,
                siblings=_siblings(database, table),
                facts=_facts(table),
                snippets=snippets(manifest, table),
                has_ranges=any(column.statistics for column in table.columns),
                about_rows=_about(manifest, table),
            )
    for database in manifest.databases:
        name = database_page(database.name)
        totals = _totals(database.tables)
        done[name] = page(
            name,
            "database.html",
            heading=database.name,
            about=totals,
            database=database,
            totals=totals,
        )
    done["manifest.json"] = to_json(manifest)
    tables = manifest.tables()
    number = words.plural(len(manifest.databases), "database")
    done[INDEX] = page(
        INDEX,
        "index.html",
        heading=manifest.title,
        about="",
        totals=f"{number} · {_totals(tuple(tables))}",
        tags=sorted(Counter(tag for table in tables for tag in table.tags).items()),
    )
    return done


def _page(
    manifest: Manifest, assets: Mapping[str, str], name: str, template: str, **values: object
) -> bytes:
    text = (
        _environment()
        .get_template(template)
        .render(
            manifest=manifest,
            assets=assets,
            policy=POLICY,
            link=lambda target: relative(name, target),
            page_of=lambda table: table_page(table.database, table.name),
            page_of_database=lambda database: database_page(database.name),
            key=_key,
            **values,
        )
    )
    return text.encode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("neuralake.site", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        when=_when,
        prose=prose,
        inline=_inline,
        summary=summary,
        highlight=highlight,
        count=words.count,
        size=words.size,
        thousands=words.thousands,
        plural=words.plural,
    )
    return environment


def _assets(manifest: Manifest) -> tuple[dict[str, str], dict[str, bytes]]:
    """Names with a digest of the content, and the files: an old page keeps its old style."""
    folder = files("neuralake.site") / "assets"
    contents = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    styles = sorted((folder / "styles").iterdir(), key=lambda entry: entry.name)
    contents["site.css"] = b"\n".join(entry.read_bytes() for entry in styles)
    contents["catalog.js"] = _search_index(manifest)
    names = {}
    for name in sorted(contents):
        stem, _, ending = name.rpartition(".")
        digest = hashlib.sha256(contents[name]).hexdigest()[:10]
        names[name] = f"assets/{stem}-{digest}.{ending}"
    return names, {names[name]: contents[name] for name in names}


def _search_index(manifest: Manifest) -> bytes:
    entries = [
        {
            "key": _key(table),
            "database": table.database,
            "name": table.name,
            "page": table_page(table.database, table.name),
            "about": summary(table.description),
            "tags": table.tags,
            "owner": table.owner,
            "kind": table.kind,
            "columns": [column.name for column in table.columns],
            "deprecated": table.deprecated is not None,
        }
        for table in manifest.tables()
    ]
    # A script file, not JSON to fetch: pages opened from a folder may not fetch.
    return b"window.neuralakeCatalog = " + json.dumps(entries, indent=0).encode() + b";\n"


def _key(table: Table) -> str:
    return table_page(table.database, table.name)


def _siblings(database: Database, table: Table) -> tuple[Table, ...]:
    """The tables around `table`, so that a page's size does not grow with its database."""
    at = database.tables.index(table)
    start = max(0, min(at - SIBLINGS_MAX // 2, len(database.tables) - SIBLINGS_MAX))
    return database.tables[start : start + SIBLINGS_MAX]


def _totals(tables: tuple[Table, ...]) -> str:
    logs = [table.log for table in tables if table.log is not None]
    parts = [words.plural(len(tables), "table")]
    if logs:
        rows = sum(log.rows or 0 for log in logs)
        parts += [f"{words.count(rows)} rows", words.size(sum(log.bytes for log in logs))]
    return " · ".join(parts)


def _facts(table: Table) -> list[_Fact]:
    log = table.log
    if log is None:
        return []
    facts = [_Fact("Rows", words.thousands(log.rows))]
    if log.modified_s is not None:
        facts.append(_Fact("Last change", time_s=log.modified_s))
    facts.append(_Fact("Size", words.size(log.bytes), f"in {words.plural(log.files, 'file')}"))
    if table.partition_by:
        facts.append(_Fact("Partitions", words.thousands(log.partitions)))
    if log.version is not None:
        facts.append(_Fact("Version", words.thousands(log.version)))
    if table.coordination not in (None, "local"):
        facts.append(_Fact("Commits by", table.coordination))
    return facts


def _about(manifest: Manifest, table: Table) -> list[_Pair]:
    pairs = [
        _Pair("Owner", table.owner),
        _Pair("Data comes from", table.data_input or ""),
        _Pair("Latency", table.latency_info or ""),
        _Pair("Partitioned by", ", ".join(table.partition_by), is_code=True),
        _Pair("Stored at", table.uri or "", is_code=True),
    ]
    if table.example_notebook:
        url = table.example_notebook if is_web_url(table.example_notebook) else ""
        pairs.append(_Pair("Example notebook", table.example_notebook, url=url, is_code=not url))
    if table.stream is not None:
        pairs.append(_Pair("Send rows to", manifest.base_url + table.stream.path, is_code=True))
        pairs.append(_Pair("Commits", _cadence(table.stream)))
    return [pair for pair in pairs if pair.value]


def _cadence(stream: StreamFacts) -> str:
    return (
        f"after {words.duration_ms(stream.flush_ms_max)} at the latest, or when "
        f"{words.plural(stream.flush_rows_max, 'row')} or {words.size(stream.flush_bytes_max)} wait"
    )


def _when(seconds: float) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(
        words.iso_time(seconds), words.clock_time(seconds)
    )


def _inline(text: str) -> Markup:
    """Prose of one paragraph without its `<p>`, for table cells; longer texts keep their blocks."""
    html = str(prose(text))
    if html.startswith("<p>") and html.count("<p>") == 1 and html.endswith("</p>"):
        html = html[3:-4]
    return Markup(html)  # noqa: S704 made by `prose`, which escapes
