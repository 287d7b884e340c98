"""Rows of figures, as a table and as JSON; and the machine that they were measured on."""
import dataclasses
import datetime
import os
import platform
import statistics
import subprocess


@dataclasses.dataclass(frozen=True)
class Unit:
    """`name` is for JSON, where values are in it; `show` writes a value for people."""
    name: str
    show: object


RATE = Unit("bytes/s", lambda value: f"{value / 1e9:.2f} GB/s" if value >= 1e9 else f"{value / 1e6:.0f} MB/s")
READS = Unit("reads/s", lambda value: f"{value / 1e3:.1f} k reads/s")
WRITES = Unit("writes/s", lambda value: f"{value / 1e3:.1f} k writes/s")
FILES = Unit("files/s", lambda value: f"{value:.0f} files/s")
MEMORY = Unit("bytes", lambda value: f"{value / 1e6:.0f} MB")
SECONDS = Unit("s", lambda value: f"{value * 1e3:.1f} ms")
PROCESSOR = Unit("s CPU", lambda value: f"{value:.2f} s CPU")
COUNT = Unit("", lambda value: f"{value:.0f}")


@dataclasses.dataclass
class Bar:
    """What a figure has to reach."""
    limit: float
    at_least: bool = True
    #: Of the ratio to the reference, or else of the figure itself.
    of_ratio: bool = True

    def met(self, figure):
        return figure >= self.limit if self.at_least else figure <= self.limit

    def text(self, unit):
        return ("≥ " if self.at_least else "≤ ") + (f"{self.limit:g}" if self.of_ratio else unit.show(self.limit))


@dataclasses.dataclass
class Row:
    case: str
    system: str
    unit: Unit = None
    values: list = dataclasses.field(default_factory=list)
    #: The median of the row that this one is compared with.
    reference: float = None
    bar: Bar = None
    note: str = ""
    failed: bool = False

    @property
    def median(self):
        return statistics.median(self.values) if self.values else None

    @property
    def ratio(self):
        return self.median / self.reference if self.values and self.reference else None

    @property
    def met(self):
        """None where there is no bar or no figure."""
        if self.bar is None or not self.values:
            return None
        figure = self.ratio if self.bar.of_ratio else self.median
        return None if figure is None else self.bar.met(figure)

    def cells(self):
        if not self.values:
            return [self.case, self.system, self.note or "–", "", "", ""]
        low, high = self.unit.show(min(self.values)), self.unit.show(max(self.values))
        bar = f"{self.bar.text(self.unit)} {'met' if self.met else 'MISSED'}" if self.met is not None else ""
        return [
            self.case, self.system, self.unit.show(self.median), f"{low} – {high}" if len(self.values) > 1 else "",
            f"{self.ratio:.2f}" if self.ratio is not None else "", "; ".join(filter(None, [bar, self.note]))]

    def json(self):
        return {
            "case": self.case, "system": self.system, "unit": self.unit.name if self.unit else None,
            "values": self.values, "median": self.median, "ratio": self.ratio, "met": self.met,
            "bar": dataclasses.asdict(self.bar) if self.bar else None, "note": self.note, "failed": self.failed}


HEADER = ["case", "system", "median", "lowest – highest", "ratio", "bar, remarks"]


def table(rows):
    """Markdown that is aligned, so that it can be read on a terminal and pasted into a document."""
    lines = [HEADER, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]

    def show(cells):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([show(HEADER), rule, *map(show, lines[1:])])


def machine():
    """What figures depend on."""
    with open("/proc/meminfo", encoding="utf-8") as memory:
        kibibytes = int(memory.readline().split()[1])
    with open("/proc/cpuinfo", encoding="utf-8") as processors:
        model = next((line.split(":", 1)[1].strip() for line in processors if line.startswith("model name")), "unknown")
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": os.cpu_count(), "processor": model, "memoryGiB": round(kibibytes / 2**20, 1),
        "kernel": platform.release(), "load": os.getloadavg()[0],
    }


def file_system(directory):
    done = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", directory], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
