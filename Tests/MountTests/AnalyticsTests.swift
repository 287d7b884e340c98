import Platform
import TestSupport
import Testing

@Suite struct AnalyticsTests {
    /// Amounts are whole: a sum of fractions depends on the order of the threads that add them up.
    /// Hive partitions, several row groups and files: what engines prune by directory, footer and row group.
    private static let makeDataset = """
        import sys, pyarrow as pa, pyarrow.parquet as pq, os, random
        random.seed(7)
        for year in (2023, 2024, 2025):
            for month in (1, 2):
                directory = f"{sys.argv[1]}/year={year}/month={month}"
                os.makedirs(directory)
                for part in range(2):
                    n = 30_000
                    pq.write_table(pa.table({
                        "id": list(range(n)),
                        "amount": [random.randrange(100_000) for _ in range(n)],
                        "city": [random.choice(["Oslo", "Graz", "Turin", "Gent"]) for _ in range(n)],
                        "note": [f"row {i} of {year}" for i in range(n)],
                    }), f"{directory}/part-{part}.parquet", row_group_size=5000)
        """

    private static let queries = [
        "select count(*), sum(amount), min(id), max(id) from d",
        "select city, year, count(*), sum(amount) from d group by all order by all",
        "select note, amount from d where year = 2024 and month = 2 and id between 17000 and 17010 order by all",
        "select year, month, approx_count_distinct(note) > 0 from d group by all order by all",
    ]

    private static let duckDB = """
        import sys, duckdb
        duckdb.sql(f"create view d as select * from read_parquet('{sys.argv[1]}/**/*.parquet', hive_partitioning=true)")
        for query in sys.argv[2:]:
            print(duckdb.sql(query).fetchall())
        """

    private static let arrow = """
        import sys, pyarrow.dataset as ds, pyarrow.compute as pc
        data = ds.dataset(sys.argv[1], format="parquet", partitioning="hive")
        print(data.count_rows(), len(data.files))
        table = data.to_table(columns=["city", "amount", "year"], filter=(ds.field("year") == 2025) & (ds.field("id") < 12345))
        print(table.num_rows, pc.sum(table["amount"]).as_py(), sorted(set(table["city"].to_pylist())))
        print(data.head(3, columns=["note"]).num_rows)
        """

    @Test(arguments: TestedServer.allCases)
    func duckDBAndArrowAnswerAsOnLocalFiles(server: TestedServer) async throws {
        let server = try await server.get()
        try await withNode(LarderNode.credentials(of: server)) { node in
            let local = node.directory.file("dataset")
            try await node.run("python", "-c", Self.makeDataset, local)
            let bucket = try await server.makeBucket()
            try await SampleTree.read(local).upload(to: bucket, below: "dataset")
            let mount = try await node.mount(bucket)
            for round in ["cold", "warm"] {
                let expected = try await query(node, local)
                let answered = try await query(node, "\(mount)/dataset")
                #expect(answered == expected, "\(round)")
                #expect(!expected.isEmpty)
            }
        }
    }

    private func query(_ node: LarderNode, _ directory: String) async throws -> String {
        let python = try TestTools.path("python")
        let byDuckDB = try await TestProcess.run(python, ["-c", Self.duckDB, directory] + Self.queries)
        let byArrow = try await TestProcess.run(python, ["-c", Self.arrow, directory])
        return byDuckDB + byArrow
    }
}
