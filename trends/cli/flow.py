"""``trends flow``: one flow as one process in the foreground. What `trends run` starts, and what a container runs."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Annotated

import typer

from flows.stopping import StopSignals
from streams.errors import ExitCode, TrendsError
from streams.spec import OnGap
from trends.cli.context import GenerationOption, current_settings
from trends.settings import Settings

log = logging.getLogger("trends.flow")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(flow)


def flow(
    name: Annotated[str, typer.Argument(help="embed, cluster, score, summarize or store.")],
    process: Annotated[
        str | None,
        typer.Option(
            "--name",
            help="Name of this process, unlike any other of its flow; TRENDS_PROCESS_NAME or FLOW-0, if not given.",
        ),
    ] = None,
    on_gap: Annotated[
        OnGap | None,
        typer.Option(help="Records deleted before they were read: stop with exit 78 (default), or skip and record."),
    ] = None,
    generation: GenerationOption = None,
) -> None:
    """Run one flow as one process in the foreground, until SIGTERM or Ctrl-C.

    It joins the flow's consumer group and takes its share of the partitions; more processes share the work, and those
    for which no partition is left stand by. The name is its place in the group: started again under the same name it
    gets its partitions back at once, and a second process of that name makes the first one end.

    SIGTERM and Ctrl-C finish what was begun and end it within ten seconds; its place is kept for its successor.
    SIGUSR1 gives the place away as well: its partitions go to the others at once. /health (is it alive and getting
    on), /ready (does it work, or stand by) and /metrics are served at TRENDS_METRICS_HOST:TRENDS_METRICS_PORT. Nothing
    is kept on disk: a read-only data folder will do.

    While a generation is built (`trends replay build`), history and copy are flows of it, too. Flows at which records
    enter a generation that is not the live one read less while the live one's are late.

    \b
    Exit codes: 0 stopped, 69 Kafka or a store cannot be reached, 76 another process of that name took over, 78 a
    person must decide.
    \b
    Examples:
      trends flow embed --name embed-0
      TRENDS_METRICS_PORT=9100 TRENDS_PROCESS_NAME=$HOSTNAME trends flow store
    """
    with StopSignals() as signals:
        settings = current_settings(on_gap=on_gap, generation=generation, process_name=process)
        code = _run(name, settings.process_name or f"{name}-0", settings, signals)
    raise typer.Exit(int(code))


def _run(flow: str, process: str, settings: Settings, signals: StopSignals) -> ExitCode:
    from flows.runtime import run
    from streams.health import FlowStatus, Phase
    from streams.session import Session
    from trends.flows import limits, prepare
    from trends.following import following
    from trends.health import FlowAccount, HealthServer
    from trends.logs import configure_logging
    from trends.runfiles import announced
    from trends.yielding import ENTRIES, yielding

    configure_logging(settings, process)
    account = FlowAccount(FlowStatus(flow, process, settings.generation), settings.hang_s)
    with (
        HealthServer(settings.metrics_host, settings.metrics_port, account) as server,
        announced(settings.home, process, flow, server.address),
    ):
        log.info("health and metrics at http://%s", server.address)
        try:
            chosen = following(settings)
            settings = chosen.settings
            spec, wire = prepare(flow, settings, chosen.record)
            kafka = settings.kafka()
            session = Session(kafka, settings.generation, spec, process, limits(settings), settings.on_gap)
        except TrendsError as error:
            account.status.enter(Phase.FAILED, str(error))
            raise
        account.status = session.status
        # A generation that is not the live one yields to it, where records enter it.
        yields = chosen.record is not None and not chosen.live and flow in ENTRIES
        with (
            yielding(settings, f"{settings.generation}.{flow}", own=settings.generation)
            if yields
            else (nullcontext()) as throttle
        ):
            session.throttle = throttle
            return run(session, wire, signals)
