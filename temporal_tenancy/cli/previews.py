"""Draws the starts of the next hours as a curve."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import RenderableType
from rich.text import Text

from temporal_tenancy.cli._arguments import day_or_time
from temporal_tenancy.cli._server_access import control_plane, each_tenant
from temporal_tenancy.cli.answers import Answer, lines, minute, table
from temporal_tenancy.cli.program import current_application
from temporal_tenancy.core.words import duration, number
from temporal_tenancy.ticks.load_curve import BUCKET, LoadCurve, load_curves, peaks, total
from temporal_tenancy.ticks.schedules import check_all

COLUMNS: Final = 72  # of the curve in a terminal; for a day, 20 minutes each
ROWS: Final = 6  # of text; each shows eight levels
EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


async def preview(hours: int, since: str | None, png: Path | None) -> Answer:
    """Previews the starts of the next hours, with and without spread, for today's tenants.

    Raises:
        ConfigurationError: a schedule's declaration is not valid.
        typer.BadParameter: `png` cannot be written.
    """
    schedules = current_application().every_schedule
    check_all(schedules)
    begin = (day_or_time(since, option="--from") if since else datetime.now(UTC)).replace(
        minute=0, second=0, microsecond=0
    )
    length = timedelta(hours=hours)
    async with control_plane() as database:
        spread, plain = await load_curves(
            schedules, each_tenant(database), since=begin, length=length
        )
    if png is not None:
        _draw(png, begin, spread, plain)
    with_peaks, without_peaks = peaks(spread), peaks(plain)
    document: dict[str, Any] = {
        "since": begin,
        "until": begin + length,
        "bucket_seconds": int(BUCKET.total_seconds()),
        "spread": total(spread),
        "without_spread": total(plain),
        "jobs": [
            {
                "job": curve.job,
                "starts": sum(curve.starts()),
                "peak": with_peaks[curve.job],
                "peak_without_spread": without_peaks[curve.job],
                "spread": curve.starts(),
                "without_spread": other.starts(),
            }
            for curve, other in zip(spread, plain, strict=True)
        ],
        "png": None if png is None else str(png),
    }
    return Answer(document, _text(document, begin, begin + length))


def _text(document: dict[str, Any], begin: datetime, end: datetime) -> RenderableType:
    if not document["jobs"]:
        return "No schedule starts jobs of tenants."
    rows = [
        (job["job"], job["starts"], job["peak"], job["peak_without_spread"])
        for job in document["jobs"]
        if job["starts"] or job["peak_without_spread"]
    ]
    most = max([*document["spread"], *document["without_spread"], 1])
    starts = sum(document["spread"])
    title = f"\n{{}}; the peak is {{:,}} in {duration(BUCKET)}"
    return lines(
        f"{number(starts, 'start')} from {minute(begin)} to {minute(end)}.",
        Text(title.format("as declared", max(document["spread"])), "bold"),
        _curve(document["spread"], most),
        Text(
            title.format("without spread and caps", max(document["without_spread"])),
            "bold",
        ),
        _curve(document["without_spread"], most),
        _hours(begin, end),
        Text(""),
        table(("job", "starts", "peak", "without spread"), rows) if rows else None,
        f"Drawn in {document['png']}." if document["png"] else None,
    )


def _curve(starts: Sequence[int], most: int) -> RenderableType:
    """Returns a chart: a column's height is its largest bucket, and `most` fills a column."""
    width = min(COLUMNS, len(starts))
    heights = []
    for column in range(width):
        part = starts[column * len(starts) // width : (column + 1) * len(starts) // width]
        # A single start must stay visible beside the largest bucket.
        heights.append(max(1, round(max(part) / most * ROWS * 8)) if max(part) else 0)
    rows = [
        "".join(EIGHTHS[max(0, min(8, height - row * 8))] for height in heights)
        for row in reversed(range(ROWS))
    ]
    return Text("\n".join(f"{most if row == 0 else '':>7} {text}" for row, text in enumerate(rows)))


def _hours(begin: datetime, end: datetime) -> RenderableType:
    marks = [" "] * (COLUMNS + 8)
    hours = int((end - begin) / timedelta(hours=1))
    for hour in range(0, hours, max(1, hours // 8)):
        place = hour * COLUMNS // hours
        marks[place : place + 5] = f"{begin + timedelta(hours=hour):%H:%M}"
    return Text(f"{'':7} {''.join(marks).rstrip()}  UTC")


def _draw(
    path: Path, begin: datetime, spread: Sequence[LoadCurve], plain: Sequence[LoadCurve]
) -> None:
    # Imported here: it takes a second, and no other command draws.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import dates, pyplot

    figure, axes = pyplot.subplots(2, 1, sharex=True, sharey=True, figsize=(11, 6))
    titles = ("as declared", "without spread and caps")
    for axis, title, curves in zip(axes, titles, (spread, plain), strict=True):
        buckets = len(total(curves))
        moments = [begin + BUCKET * bucket for bucket in range(buckets)]
        bottom = [0] * buckets
        for curve in curves:
            starts = list(curve.starts())
            if any(starts):
                width = BUCKET / timedelta(days=1)
                axis.bar(moments, starts, width=width, bottom=bottom, align="edge", label=curve.job)
            bottom = [below + more for below, more in zip(bottom, starts, strict=True)]
        axis.set_title(title, loc="left")
        axis.set_ylabel(f"starts in {duration(BUCKET)}")
        axis.spines[["top", "right"]].set_visible(False)
    hours = dates.DateFormatter("%H:%M")  # type: ignore[no-untyped-call]
    axes[1].xaxis.set_major_formatter(hours)
    axes[1].set_xlabel(f"UTC, from {begin:%Y-%m-%d %H:%M}")
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend(frameon=False, ncols=3)
    figure.tight_layout()
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise typer.BadParameter(
            f"{path} cannot be written: {error.strerror}.", param_hint="--png"
        ) from None
    finally:
        pyplot.close(figure)
