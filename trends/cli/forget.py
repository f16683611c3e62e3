"""``trends forget``: an item, or all that an author wrote, gone for good; recorded, and looked after."""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, Any

import typer
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from streams.errors import ExitCode, SettingsError
from streams.records import ForgetKind, ForgetRequest
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, progress, show
from trends.forgetting import Forgetter, Report, Wanted
from trends.text import moment, plain


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    from trends.cli import flowing

    group = typer.Typer(invoke_without_command=True)
    group.callback(help=flowing(inspect.getdoc(forget) or ""))(forget)
    group.command("list")(list_requests)
    app.add_typer(group, name="forget")


def forget(
    context: typer.Context,
    item: Annotated[
        str | None, typer.Option("--item", help="An item: its id, or SOURCE/EXTERNAL_ID.", show_default=False)
    ] = None,
    author: Annotated[
        str | None, typer.Option("--author", help="All that this author wrote, and will write.", show_default=False)
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="With --author: only at this source.", show_default=False)
    ] = None,
    check: Annotated[
        str | None, typer.Option("--check", help="Look at a request: is anything left?", metavar="REQUEST")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept with the request. Write no names.")] = "",
    wait: Annotated[float, typer.Option("--wait", min=0, max=86_400, help="Seconds to wait until it is done.")] = 60.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which items are known, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Forget an item, or an author: in the streams, the stores, and whatever comes again.

    The request is recorded first, so that neither a source nor a replay brings it back. Deletions then pass through
    the pipeline, so that counts stay exact; topics and summaries that quote it are told anew; dead letters that hold it
    are purged. Streams with a retention keep the bytes until that is over, and every reader passes them over. Ends with
    1 where something is left after --wait seconds (flows that do not run, say): the same call goes on with it.

    \b
    Examples:
      trends forget --item hackernews/12345
      trends forget --author "J. Doe" --source rss --dry-run
      trends forget --check forget-1f0c5b2a9d3e
      trends forget list
    """
    if context.invoked_subcommand is not None:
        return
    if sum(each is not None for each in (item, author, check)) != 1:
        raise SettingsError("say what: --item, --author, or --check with the id of a request")
    if source is not None and author is None:
        raise SettingsError("--source goes with --author; an item is SOURCE/EXTERNAL_ID")
    if author is not None and not author.strip():
        raise SettingsError("--author is empty")
    forgetter = Forgetter(current_settings(), progress)
    if check is not None:
        _tell(forgetter.check(check), as_json)
        return
    wanted = Wanted.item(item) if item is not None else Wanted(author=author, source=source)
    known = forgetter.find(wanted)
    items = {each.item_id for each in known}
    if dry_run:
        show({"items": sorted(items)}, as_json, lambda: Text(f"{len(items):,} known items would be forgotten"))
        return
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError(f"{len(items):,} known items would be forgotten: say --yes, or --dry-run for a look")
        typer.confirm(f"{len(items):,} known items will be forgotten, for good. Go on?", abort=True, err=True)
    _tell(forgetter.forget(wanted, reason, wait), as_json)


def list_requests(as_json: JsonOption = False) -> None:
    """Show what was asked to be forgotten, the last first: without names, which are not kept.

    \b
    Examples:
      trends forget list
    """
    requests = sorted(Forgetter(current_settings()).requests().requests, key=lambda r: r.requested_at, reverse=True)
    authors = {r.request_id for r in requests if r.kind is ForgetKind.AUTHOR}
    shown = [r for r in requests if r.kind is ForgetKind.AUTHOR or r.request_id not in authors]
    rows = [_row(request, requests) for request in shown]

    def render() -> RenderableType:
        if not rows:
            return Text("nothing was asked to be forgotten")
        table = Table("request", "when", "what", "items", "reason", box=None, header_style="bold")
        for r, row in zip(shown, rows, strict=True):
            what = row["item"] or f"an author at {row['source'] or 'all sources'}"
            table.add_row(r.request_id, moment(r.requested_at), what, str(row["items"]), Text(plain(r.reason)))
        return table

    show(rows, as_json, render)


def _row(request: ForgetRequest, requests: list[ForgetRequest]) -> dict[str, Any]:
    items = sum(r.request_id == request.request_id and r.item_id is not None for r in requests)
    return {
        "request": request.request_id,
        "requested_at": request.requested_at.isoformat(),
        "kind": request.kind.value,
        "item": request.item_id,
        "source": request.source,
        "items": items,
        "reason": request.reason,
    }


def _tell(report: Report, as_json: bool) -> None:
    value = {
        "request": report.request.request_id,
        "requested_at": report.request.requested_at.isoformat(),
        "items": report.items,
        "done": report.done,
        "left": [{"where": left.where, "what": left.what, "count": left.count} for left in report.left],
        "bytes_until": report.bytes_until.isoformat(),
    }

    def render() -> RenderableType:
        lines: list[RenderableType] = [Text(f"request {report.request.request_id}: {report.items:,} items")]
        if report.done:
            lines.append(Text("gone from the stores and from all that the flows remember and quote"))
        for left in report.left:
            lines.append(Text(f"left: {left.count:,} {left.what} in {left.where}"))
        if not report.done:
            lines.append(Text("run the flows (`trends run`), then say the same again"))
        lines.append(
            Text(f"streams with a retention hold its bytes until {moment(report.bytes_until)} at the latest, unread")
        )
        return Lines(*lines)

    show(value, as_json, render)
    if not report.done:
        raise typer.Exit(int(ExitCode.FAILED))
