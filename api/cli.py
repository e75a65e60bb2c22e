"""The command line. Every command imports what it needs when it runs: workers start from here too,
and must not load the web for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 refused or failed, 2 not understood."""
    parser = _parser()
    # The training commands have their own arguments: argparse's REMAINDER refuses options first.
    arguments, rest = parser.parse_known_args(argv)
    command: Command = arguments.command
    if command is _training:
        arguments.rest = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    from app.clinic.errors import ClinicError
    from app.errors import AppError
    from imaging.errors import ImagingError

    try:
        return command(arguments)
    except (AppError, ClinicError, ImagingError) as refused:
        print(f"sonodose: {refused.message}\n  {refused.remedy}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sonodose",
        description="Ultrasound-guided botulinum toxin planning: research and decision support.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the service and its viewer")
    serve.add_argument("--host", help="address to listen on (SONODOSE_HOST)")
    serve.add_argument("--port", type=int, help="port, 0 takes a free one (SONODOSE_PORT)")
    serve.add_argument(
        "--dimse", dest="dimse_port", type=int, metavar="PORT", help="take DICOM studies there too"
    )
    serve.add_argument("--data-dir", type=Path, help="folder of everything stored")
    serve.add_argument("--workers", type=int, help="worker processes (default: cores)")
    serve.set_defaults(command=_serve)

    listen = commands.add_parser("listen", help="take DICOM studies, without the web service")
    listen.add_argument("--host", dest="dimse_host", help="address (SONODOSE_DIMSE_HOST)")
    listen.add_argument("--port", dest="dimse_port", type=int, help="port; 0 takes a free one")
    listen.add_argument("--data-dir", type=Path, help="folder of everything stored")
    listen.set_defaults(command=_listen)

    worker = commands.add_parser("worker", help="do the jobs of a Dask cluster on this machine")
    worker.add_argument("scheduler", help="its address: tcp://scheduler:8786")
    worker.add_argument("--jobs", type=int, help="jobs at once (default: cores)")
    worker.add_argument(
        "--resources", action="append", default=[], metavar="NAME=N", help="such as GPU=1"
    )
    worker.set_defaults(command=_worker)

    plan = commands.add_parser("plan", help="plan from local files, without a service")
    plan.add_argument("inputs", nargs="+", type=Path, metavar="FILE")
    plan.add_argument("--request", required=True, help="the request: JSON, or @file.json")
    plan.add_argument("--out", type=Path, help="folder for plan.json, overlay.png, seg.dcm, sr.dcm")
    plan.set_defaults(command=_plan)

    segment = commands.add_parser("segment", help="masks of local files, without a plan")
    segment.add_argument("inputs", nargs="+", type=Path, metavar="INPUT")
    segment.add_argument("--out", required=True, type=Path, metavar="DIR")
    segment.add_argument("--prompts", type=Path, metavar="FILE", help="clicks and boxes by file")
    segment.set_defaults(command=_segment)

    for name, meaning in (
        ("train", "train a network"),
        ("evaluate", "measure a network on held-out images"),
        ("export", "write a network for serving"),
    ):
        training = commands.add_parser(name, help=meaning, add_help=False)
        training.set_defaults(command=_training, name=name)

    tables = commands.add_parser("check-tables", help="check the dose tables, or a site's own")
    tables.add_argument("folder", nargs="?", type=Path)
    tables.set_defaults(command=_check_tables)

    rules = commands.add_parser(
        "check-rules", help="check routing rules, and say which decides for a file, and why"
    )
    rules.add_argument("file", type=Path)
    rules.add_argument("inputs", nargs="*", type=Path, metavar="DICOM", help="files or folders")
    rules.add_argument("--calling-ae", help="as if this AE title had sent them")
    rules.set_defaults(command=_check_rules)

    doctor = commands.add_parser("doctor", help="is everything here that the service needs?")
    doctor.set_defaults(command=_doctor)

    audit = commands.add_parser("audit", help="the audit of who did what")
    audits = audit.add_subparsers(required=True, metavar="WHAT")
    verify = audits.add_parser("verify", help="check that no entry was changed or removed")
    verify.add_argument("--seal", help="SEQ:SHA-256 of an earlier check: it must still be there")
    verify.set_defaults(command=_audit_verify)

    safe = commands.add_parser("deidentify", help="DICOM images without the person (PS3.15 E)")
    safe.add_argument("source", type=Path, metavar="IN", help="a file, or a folder with all below")
    safe.add_argument("out", type=Path, metavar="OUT", help="a folder that is empty or new")
    safe.add_argument(
        "--dates",
        choices=["removed", "shifted"],
        default="removed",
        help="leave dates out, or shift them by days, the same for one patient",
    )
    safe.set_defaults(command=_deidentify)

    labels = commands.add_parser(
        "export-labels", help="confirmed and corrected outlines to train on, without the person"
    )
    labels.add_argument("--out", required=True, type=Path, metavar="DIR")
    labels.set_defaults(command=_export_labels)

    batch = commands.add_parser("batch", help="a table of measurements over thousands of images")
    batch.add_argument("folder", nargs="?", type=Path, metavar="DIR")
    batch.add_argument("--qido", metavar="URL", help="a DICOMweb search for studies instead")
    batch.add_argument("--request", required=True, help="for every image: JSON, or @file.json")
    batch.add_argument("--out", required=True, type=Path, help="folder; the same goes on there")
    batch.add_argument("--table", choices=["csv", "parquet"], default="csv")
    batch.set_defaults(command=_batch)

    saved = commands.add_parser("backup", help="copy database and files, also of a running service")
    saved.add_argument("folder", type=Path)
    saved.set_defaults(command=_backup)

    restored = commands.add_parser("restore", help="put a backup into an empty data folder")
    restored.add_argument("folder", type=Path)
    restored.set_defaults(command=_restore)

    key = commands.add_parser("new-key", help="make an API key; only its hash is for the settings")
    key.add_argument("name")
    key.add_argument("--scopes", default="read,submit", help="of read,submit,edit,confirm,admin")
    key.add_argument("--expires", help="last day, YYYY-MM-DD")
    key.set_defaults(command=_new_key)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    from api.serve import serve
    from app.settings import Settings

    given = {
        name: value
        for name in ("host", "port", "dimse_port", "data_dir", "workers")
        if (value := getattr(arguments, name)) is not None
    }
    return serve(Settings(**given))


def _listen(arguments: argparse.Namespace) -> int:
    from api.listen import listen
    from app.settings import Settings

    given = {
        name: value
        for name in ("dimse_host", "dimse_port", "data_dir")
        if (value := getattr(arguments, name)) is not None
    }
    return listen(Settings(**{"dimse_port": 11112, **given}))


def _worker(arguments: argparse.Namespace) -> int:
    import os

    try:
        from app.jobs.cluster import serve_worker
    except ImportError as missing:
        print(
            f"sonodose: worker needs Dask ({missing.name}).\n"
            "  Install it with: pip install 'sonodose[dask]'",
            file=sys.stderr,
        )
        return 1
    jobs = arguments.jobs or os.cpu_count() or 1
    serve_worker(arguments.scheduler, jobs=jobs, resources=arguments.resources)
    return 0


def _check_rules(arguments: argparse.Namespace) -> int:
    from api.local import explain_rules

    return explain_rules(arguments.file, arguments.inputs, arguments.calling_ae)


def _plan(arguments: argparse.Namespace) -> int:
    from api.local import plan_files

    text = arguments.request
    if text.startswith("@"):
        text = Path(text[1:]).read_text("utf-8")
    return plan_files(arguments.inputs, text, arguments.out)


def _segment(arguments: argparse.Namespace) -> int:
    from api.local import frames_of
    from models.errors import ModelError
    from models.segment_files import PromptsRefused, segment_files

    try:
        return segment_files(
            arguments.inputs, arguments.out, arguments.prompts, read_frames=frames_of
        )
    except ModelError as missing:
        print(f"sonodose: {missing.message}\n  {missing.remedy}", file=sys.stderr)
    except PromptsRefused as refused:
        print(f"sonodose: {refused}", file=sys.stderr)
    return 1


def _training(arguments: argparse.Namespace) -> int:
    from importlib import import_module

    try:
        module = import_module(f"models.training.{arguments.name}")
    except ImportError as missing:
        print(
            f"sonodose: {arguments.name} needs PyTorch and its companions ({missing.name}).\n"
            "  Install them with: pip install 'sonodose[train]'",
            file=sys.stderr,
        )
        return 1
    run: Callable[[list[str]], int | None] = module.main
    return run(arguments.rest) or 0


def _check_tables(arguments: argparse.Namespace) -> int:
    from app.clinic.tables import load_tables, missing

    tables = load_tables(arguments.folder)
    lacking = missing(tables)
    print(
        f"The tables hold: version {tables.version}, {len(tables.dose_rows)} dose rows, "
        f"{len(tables.caps)} caps, {len(tables.muscles)} muscles, sha256 {tables.sha256}"
    )
    if tables.override is not None:
        print(f"Laid over them: {tables.override.name} ({', '.join(tables.override.tables)})")
    print(f"Not found in a source, so a plan that needs it is refused or cautioned: {len(lacking)}")
    for fact in lacking:
        print(f"  {fact.table}  {fact.row}: {fact.what}")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from api.doctor import examine
    from app.settings import Settings

    return examine(Settings())


def _audit_verify(arguments: argparse.Namespace) -> int:
    from app.settings import Settings
    from app.store import audit
    from app.store.database import Store

    store = Store(Settings().database)
    store.migrate()
    try:
        with store.read() as session:
            count, fault = audit.verify(session)
            if fault is None and arguments.seal is not None:
                fault = audit.broken_seal(session, arguments.seal)
            seal = audit.seal_of(session)
    except ValueError:
        print("A seal is SEQ:SHA-256, as an earlier check printed it.", file=sys.stderr)
        return 2
    finally:
        store.close()
    if fault is None:
        print(f"The audit holds: {count} entries, none changed, none missing.")
        print(f"Its seal, to keep elsewhere and to give next time as --seal: {seal}")
        return 0
    print(f"The audit does not hold at entry {fault.seq}: {fault.reason}.", file=sys.stderr)
    return 1


def _deidentify(arguments: argparse.Namespace) -> int:
    from app.clinic.tables import load_tables
    from app.errors import RequestConflict
    from app.results.export import export_files, site_of
    from app.settings import Settings

    source, out = arguments.source, arguments.out
    if out.exists() and any(out.iterdir()):
        raise RequestConflict(f"{out} is not empty.", remedy="Give a new folder for each export.")
    settings = Settings()
    paths = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    site = site_of(settings, load_tables(settings.table_override), arguments.dates)
    done = export_files(paths, out, site=site, limits=settings.decode_limits)
    for path, each in zip(paths, done, strict=True):
        if each.refused is not None:
            print(f"sonodose: {path} stays: {each.refused}", file=sys.stderr)
    safe = [each for each in done if each.refused is None]
    print(f"{len(safe)} of {len(done)} images are in {out}, with report.json.")
    return 0 if len(safe) == len(done) and done else 1


def _export_labels(arguments: argparse.Namespace) -> int:
    from app.clinic.tables import load_tables
    from app.results.export import site_of
    from app.results.labels import export_labels
    from app.settings import Settings
    from app.store.database import Store
    from app.store.object_store import open_blobs

    settings = Settings()
    store = Store(settings.database)
    done = export_labels(
        arguments.out,
        store=store,
        blobs=open_blobs(settings),
        site=site_of(settings, load_tables(settings.table_override), "removed"),
        limits=settings.decode_limits,
        memory_bytes=settings.job_memory_bytes,
    )
    store.close()
    for why in done.left:
        print(f"sonodose: left out: {why}", file=sys.stderr)
    print(f"{done.written} outlines are in {arguments.out}, {len(done.left)} were left out.")
    return 0


def _batch(arguments: argparse.Namespace) -> int:
    from api.batch import batch

    text = arguments.request
    if text.startswith("@"):
        text = Path(text[1:]).read_text("utf-8")
    return batch(
        folder=arguments.folder,
        qido=arguments.qido,
        request_json=text,
        out=arguments.out,
        table=arguments.table,
    )


def _backup(arguments: argparse.Namespace) -> int:
    from app.settings import Settings
    from app.upkeep import backup

    count = backup(Settings(), arguments.folder)
    print(f"Backed up the database and {count} files into {arguments.folder}.")
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from app.settings import Settings
    from app.upkeep import restore

    settings = Settings()
    count = restore(settings, arguments.folder)
    print(f"Restored the database and {count} files into {settings.data_dir}.")
    return 0


def _new_key(arguments: argparse.Namespace) -> int:
    import hashlib
    import secrets

    from app.settings import ApiKey

    token = secrets.token_urlsafe(32)
    entry: dict[str, Any] = {
        "name": arguments.name,
        "sha256": hashlib.sha256(token.encode()).hexdigest(),
        "scopes": arguments.scopes.split(","),
    }
    if arguments.expires:
        entry["expires"] = arguments.expires
    ApiKey.model_validate(entry)
    print(f"The key, shown once:   {token}")
    print(f"For SONODOSE_API_KEYS: {json.dumps([entry])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
