"""A data set to query: taxi-like trips as Parquet files partitioned by year and month, and the zones they refer to.

Seeded: the same rows on every machine. Sums of integers, so that an answer does not depend on the order of addition.
"""
import os

import numpy
import pyarrow
import pyarrow.parquet

ZONES = 265
BOROUGHS = ["Bronx", "Brooklyn", "Manhattan", "Queens", "Staten Island"]
PAYMENTS = ["card", "cash", "no charge", "dispute"]


def write_zones(path):
    numbers = numpy.arange(1, ZONES + 1, dtype=numpy.int16)
    pyarrow.parquet.write_table(
        pyarrow.table({
            "zone": numbers,
            "borough": [BOROUGHS[number % len(BOROUGHS)] for number in numbers],
        }), path)


def write_trips(directory, years=(2024, 2025), rows_per_month=450_000):
    """Writes directory/year=Y/month=M/part-0.parquet and yields each path, relative to the directory."""
    for year in years:
        for month in range(1, 13):
            random = numpy.random.default_rng(year * 100 + month)
            start = numpy.datetime64(f"{year}-{month:02}-01", "us").astype(numpy.int64)
            pickup = start + numpy.sort(random.integers(0, 28 * 86_400, rows_per_month)) * 1_000_000
            seconds = random.gamma(3, 300, rows_per_month).astype(numpy.int64) + 60
            metres = (seconds * random.uniform(2, 12, rows_per_month)).astype(numpy.int32)
            fare = (300 + metres * random.uniform(0.1, 0.25, rows_per_month)).astype(numpy.int32)
            table = pyarrow.table({
                "pickup_at": pyarrow.array(pickup).cast(pyarrow.timestamp("us")),
                "dropoff_at": pyarrow.array(pickup + seconds * 1_000_000).cast(pyarrow.timestamp("us")),
                "pickup_zone": random.integers(1, ZONES + 1, rows_per_month, dtype=numpy.int16),
                "dropoff_zone": random.integers(1, ZONES + 1, rows_per_month, dtype=numpy.int16),
                "passengers": random.integers(1, 7, rows_per_month, dtype=numpy.int8),
                "metres": metres,
                "fare_cents": fare,
                "tip_cents": (fare * random.uniform(0, 0.3, rows_per_month)).astype(numpy.int32),
                "payment": pyarrow.DictionaryArray.from_arrays(
                    random.integers(0, len(PAYMENTS), rows_per_month, dtype=numpy.int8), PAYMENTS),
            })
            path = f"year={year}/month={month:02}/part-0.parquet"
            os.makedirs(os.path.join(directory, os.path.dirname(path)), exist_ok=True)
            pyarrow.parquet.write_table(table, os.path.join(directory, path), row_group_size=150_000, compression="zstd")
            yield path
