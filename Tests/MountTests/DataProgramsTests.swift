import Platform
import TestSupport
import Testing

/// A Spark job and a PostgreSQL base backup, in a directory of a bucket.
extension ProgramsTests {
    /// FileOutputCommitter renames each task's files, and then (version 1) each job's.
    @Test func sparkWritesPartitionedParquetByBothOfItsCommitters() async throws {
        try await run(
            """
            cat > "$2/job.py" <<'END'
            import sys
            from pyspark.sql import SparkSession, functions as f
            mount, local = sys.argv[1:]
            settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.memory": "512m",
                        "spark.driver.bindAddress": "127.0.0.1", "spark.sql.shuffle.partitions": "2",
                        "spark.local.dir": f"{local}/tmp", "spark.sql.warehouse.dir": f"{local}/warehouse"}
            builder = SparkSession.builder.master("local[2]")
            for name, value in settings.items(): builder = builder.config(name, value)
            spark = builder.getOrCreate()
            data = spark.range(3000).select("id", (f.col("id") % 3).alias("part"), f.concat(f.lit("row "), "id").alias("name"))
            def rows(frame): return sorted(map(tuple, frame.select("id", "part", "name").collect()))
            expected = rows(data)
            for version in "1", "2":
                path = f"file://{mount}/v{version}"
                def write(frame, mode):
                    frame.write.mode(mode).option("mapreduce.fileoutputcommitter.algorithm.version", version) \\
                        .partitionBy("part").parquet(path)
                write(data.where("id < 100"), "overwrite")
                write(data, "overwrite")
                assert rows(spark.read.parquet(path)) == expected
                write(data.where("id < 100"), "append")
                assert rows(spark.read.parquet(path)) == sorted(expected + expected[:100])
            spark.stop()
            END
            mkdir "$2/tmp"
            python "$2/job.py" "$1" "$2" 2> "$2/log" || { tail -40 "$2/log"; exit 1; }
            for v in v1 v2; do
              test -e "$1/$v/_SUCCESS"; test ! -e "$1/$v/_temporary"; test "$(ls -d "$1/$v"/part=* | wc -l)" = 3
              test "$(python -c 'import duckdb, sys; print(duckdb.sql(f"select count(*), sum(id) from \\"{sys.argv[1]}/*/*.parquet\\"").fetchall())' \\
                "$1/$v")" = "[(3100, $((2999 * 3000 / 2 + 99 * 100 / 2)))]"
            done
            """, limit: 500)
    }

    @Test func aPostgreSQLBaseBackupIsVerifiedAndACopyOfItStarts() async throws {
        try await run(
            """
            bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
            mkdir "$2/pg"; as=
            if [ "$(id -u)" = 0 ]; then
              # Its servers do not run as root.
              chmod 711 "$2/.." "$2"; chown nobody:nogroup "$2/pg"; as="setpriv --reuid=nobody --regid=nogroup --clear-groups"
            fi
            cd "$2/pg"
            server() { $as "$bin/pg_ctl" "$2" -D "$1" -w -s -m fast -l "$PWD/server.log" \\
              -o "-c listen_addresses= -k $PWD -c fsync=off -c shared_buffers=16MB -c max_connections=10"; }
            sql() { "$bin/psql" -h "$PWD" -U admin -d postgres -Atqc "$1"; }
            trap 'server data stop 2>/dev/null || true; server copy stop 2>/dev/null || true' EXIT
            $as "$bin/initdb" -D data -U admin -A trust -N --no-locale -E UTF8 > initdb.log
            server data start
            # The fewer databases, the fewer files.
            sql "update pg_database set datistemplate = false"; sql "drop database template0"; sql "drop database template1"
            sql "create table t as select i as id, md5(i::text) as word from generate_series(1, 20000) i; create index on t(word)"
            "$bin/pg_basebackup" -h "$PWD" -U admin -D "$1/backup" -c fast -X stream --manifest-checksums=SHA256
            sql "insert into t values (0, 'later')"
            server data stop
            "$bin/pg_verifybackup" "$1/backup" > verified.log
            cp -r "$1/backup" copy
            chmod -R go-rwx copy; [ -z "$as" ] || chown -R nobody:nogroup copy
            server copy start
            test "$(sql "select count(*), max(id), count(distinct word) from t")" = "20000|20000|20000"
            test "$(sql "select id from t where word = md5('777')")" = 777
            server copy stop
            """, limit: 500)
    }
}
