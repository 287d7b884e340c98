import Platform

extension StoreContract {
    static let flatKeyChecks: [ContractCheck] = [
        ContractCheck("keys that no file can have are counted and not shown") { context in
            let fixture = try context.needFlatKeys()
            var refused = 0
            try await fixture.put("odd/plain", [1])
            for key: ByteString in [
                "odd//empty", "odd/./dot", "odd/../dots", ByteString("odd/" + String(repeating: "n", count: 256)),
            ] {
                do { try await fixture.put(key, [1]) } catch is ContractNotApplicable { refused += 1 }
            }
            let listing = try await context.names(of: "odd")
            try expect(listing.entries.map(\.name) == ["plain"], "the listing shows \(listing.entries.map(\.name))")
            try expect(listing.unnameable == 4 - refused, "\(listing.unnameable) are counted, not \(4 - refused)")
            return refused == 0 ? "" : "the store refuses \(refused) of 4 such keys"
        },
        ContractCheck("an object beside a directory of its name is hidden and reported") { context in
            let fixture = try context.needFlatKeys()
            try await fixture.put("beside/a/b", [1])
            // `a-x` sorts between `a` and `a/b`.
            try await fixture.put("beside/a-x", [1])
            try await fixture.put("beside/a", [1, 2, 3])
            let found = try await context.store.lookup("beside/a")
            try expect(found?.kind == .directory, "the directory does not win")
            let listing = try await context.names(of: "beside")
            let names = listing.entries.map(\.name).sorted()
            try expect(names == ["a", "a-x"], "the listing shows \(names)")
            let kind = listing.entries.first { $0.name == "a" }?.attributes.kind
            try expect(kind == .directory, "the listing shows the object")
            try expect(listing.shadowed == ["a"], "the listing reports \(listing.shadowed) as hidden")
            return ""
        },
        ContractCheck("a marker object makes a directory, and is not in it") { context in
            let fixture = try context.needFlatKeys()
            try await fixture.put("marked/", [])
            try expect(try await context.store.lookup("marked")?.kind == .directory, "the directory is not found")
            let listing = try await context.names(of: "marked")
            try expect(listing.entries.isEmpty && listing.unnameable == 0, "the marker is shown or counted")
            let above = try await context.names(of: "").entries.filter { $0.name == "marked" }
            try expect(above.map(\.attributes.kind) == [.directory], "the directory is not listed")
            return ""
        },
    ]
}

extension ContractContext {
    func needFlatKeys() throws -> any ContractFixture {
        let fixture = try needFixture()
        guard fixture.hasFlatKeys else { throw ContractNotApplicable("paths of the store are those of files") }
        return fixture
    }
}
