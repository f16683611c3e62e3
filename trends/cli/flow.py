"""``trends flow``: one flow as one process in the foreground. What `trends run` starts, and what a container runs."""

from __future__ import annotations

import logging
from typing import Annotated

import typer
from prometheus_client import start_http_server

from streams.session import OnGap, Session
from trends.cli.context import GenerationOption, current_settings

log = logging.getLogger("trends.flow")


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(flow)


def flow(
    name: Annotated[str, typer.Argument(help="embed, cluster, score, summarize or store.")],
    process: Annotated[
        str | None,
        typer.Option("--name", help="Name of this process, unlike any other of its flow; FLOW-0, if not given."),
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

    \b
    Exit codes: 0 stopped, 69 Kafka or a store cannot be reached, 76 another process of that name took over, 78 a
    person must decide.
    \b
    Examples:
      trends flow embed --name embed-0
      TRENDS_METRICS_PORT=9100 trends flow store --name "$HOSTNAME"
    """
    from flows.runtime import run
    from trends.flows import limits, prepare
    from trends.following import following
    from trends.logs import configure_logging
    from trends.runfiles import announced

    settings = current_settings(on_gap=on_gap, generation=generation)
    process = process or f"{name}-0"
    configure_logging(settings, process)
    settings = following(settings).settings
    spec, wire = prepare(name, settings)
    server, _ = start_http_server(settings.metrics_port, settings.metrics_host)
    log.info("metrics at http://%s:%d/metrics", settings.metrics_host, server.server_port)
    session = Session(settings.kafka(), settings.generation, spec, process, limits(settings), settings.on_gap)
    with announced(settings.home, process, name, f"{settings.metrics_host}:{server.server_port}"):
        code = run(session, wire)
    server.shutdown()
    raise typer.Exit(int(code))
