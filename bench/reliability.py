"""Proof under stress: rivals, kills, a clock that jumps, a soak with faults, long histories, many versions.

    python bench/reliability.py [--only rivals,kills,clock,soak,starts,curve] [--minutes 10] [--rounds 200]

Each part prints what it found; docs/reliability.md has the figures. What a part is about, its own file says: rivals.py,
kills.py, clock.py, soak.py and growth.py. The exit code is 1 where something was lost, could not be read or did not
agree. Buckets are the storage emulator of the tests, over HTTP on this machine. Linux alone: memory is read from /proc.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from bench import clock, growth, kills, rivals, soak, written  # noqa: E402

PARTS: dict[str, Callable[[argparse.Namespace], bool]] = {}


def main() -> None:
    """Run the parts, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between (default: all)")
    parser.add_argument("--minutes", type=float, default=10, help="of the soak (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="of the rivals (default: %(default)s)")
    parser.add_argument("--times", type=int, default=5, help="each start and command (default: %(default)s)")
    parser.add_argument("--versions", type=int, default=growth.VERSIONS[-1], help="at most (default: %(default)s)")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(PARTS):
        parser.error(f"expected parts among {', '.join(PARTS)}; received {', '.join(unknown)}")
    well = True
    for name in names:
        print(f"\n{name} (load {os.getloadavg()[0]:.1f})", flush=True)
        well &= PARTS[name](options)
    if not well:
        sys.exit(1)


def part(run: Callable[[argparse.Namespace], bool]) -> Callable[[argparse.Namespace], bool]:
    """Make a function a part, which returns whether all is well."""
    PARTS[run.__name__.removeprefix("run_")] = run
    return run


@part
def run_rivals(options: argparse.Namespace) -> bool:
    """Eight that change what serves at the same moment."""
    well = True
    for found in rivals.measure(options.rounds):
        print(
            f"{found.store}: {found.rounds} rounds of {rivals.RIVALS}, {found.wishes:,} wishes, "
            f"{found.took_effect:,} took effect, {found.inconsistent} rounds inconsistent, {found.seconds:.0f} s",
            flush=True,
        )
        well &= not found.inconsistent
    return well


@part
def run_kills(_: argparse.Namespace) -> bool:
    """SIGKILL behind every write of every command."""
    well, total = True, 0
    print(f"{'command':22}{'writes':>8}{'kills':>8}{'as before':>11}  readable")
    for found in kills.measure():
        readable = "yes" if not found.unreadable else "; ".join(found.unreadable)
        print(f"{found.command:22}{found.kills:8}{found.kills:8}{found.as_before:11}  {readable}", flush=True)
        well &= not found.unreadable
        total += found.kills
    print(f"{total} kills")
    return well


@part
def run_clock(_: argparse.Namespace) -> bool:
    """A clock that jumps both ways."""
    found = clock.measure()
    print("\n".join(clock.lines(found)), flush=True)
    return not found.failed and found.history_in_order and not found.unanswered and not found.not_followed


@part
def run_soak(options: argparse.Namespace) -> bool:
    """Everything at once."""
    found = soak.measure(options.minutes)
    print("\n".join(soak.lines(found)), flush=True)
    return found.sent == found.photos["200"] and not found.wrong and not found.lost_corrections


@part
def run_starts(options: argparse.Namespace) -> bool:
    """Cold starts behind a long history."""
    print(f"{'entries':>8}{'MB':>7}{'ms':>7}{'range':>14}")
    for each in growth.starts(options.times):
        reach = f"{min(each.milliseconds):.0f} to {max(each.milliseconds):.0f}"
        print(f"{each.entries:8,}{each.bytes / 1e6:7.2f}{median(each.milliseconds):7.0f}{reach:>14}")
    return True


@part
def run_curve(options: argparse.Namespace) -> bool:
    """List, status and promote with more and more versions."""
    heads = "".join(f"{command:>9}" for command in growth.COMMANDS)
    print(f"{'':8}{'seconds':>{len(heads)}}{'of the processor':>{len(heads)}}\n{'versions':>8}{heads}{heads}")
    for each in growth.curve(options.times, options.versions):
        line = "".join(
            f"{taken[command]:9.2f}" for taken in (each.seconds, each.processor) for command in growth.COMMANDS
        )
        print(f"{each.versions:8,}{line}", flush=True)
    return True


if __name__ == "__main__":
    written.program(main)
