import Platform

extension StoreContract {
    static let changeChecks: [ContractCheck] = [
        ContractCheck("a new object is found at once, and its directories with it") { context in
            let fixture = try context.needFixture()
            try expect(try await context.store.lookup("new") == nil, "\"new\" is there already")
            try await fixture.put("new/one/object", [1, 2, 3])
            for directory: ByteString in ["new", "new/one"] {
                try expect(
                    try await context.store.lookup(directory)?.kind == .directory, "\"\(directory)\" is not found")
            }
            let found = try await context.store.lookup("new/one/object")
            try expect(found?.kind == .file && found?.size == 3, "the object is not found")
            let listed = try await context.names(of: "new/one").entries
            try expect(listed.map(\.name) == ["object"], "the object is not listed")
            try expect(listed.first?.attributes.version == found?.version, "it is listed with another version")
            return ""
        },
        ContractCheck("a replaced object has another version, and the old one is refused") { context in
            let fixture = try context.needFixture()
            let (old, new) = (ContractContext.pattern(100_000, seed: 7), ContractContext.pattern(100_000, seed: 8))
            try await fixture.put("replaced", old)
            let before = try await context.store.lookup("replaced")
            let half = try await context.read("replaced", 0..<50_000, expecting: before?.version)
            try expect(half.elementsEqual(old[..<50_000]), "the first version has other bytes")
            try await fixture.put("replaced", new)
            let after = try await context.store.lookup("replaced")
            try expect(after?.version != nil && after?.version != before?.version, "both versions are the same")
            let sink = ContractSink(from: 50_000)
            try await context.expectError(.versionChanged, from: "the second half of the old version") {
                try await context.store.read(
                    "replaced", range: 50_000..<100_000, expecting: before?.version, into: sink)
            }
            try expect(sink.bytes.isEmpty, "\(sink.bytes.count) bytes of the new version were delivered for the old")
            let whole = try await context.read("replaced", 0..<100_000, expecting: after?.version)
            try expect(whole == new, "the new version has other bytes")
            return ""
        },
        ContractCheck("an object that grew or shrank is read with its new length") { context in
            let fixture = try context.needFixture()
            for size in [10, 5000, 3] {
                let bytes = ContractContext.pattern(size, seed: UInt64(size))
                try await fixture.put("resized", bytes)
                let found = try await context.store.lookup("resized")
                try expect(found?.size == UInt64(size), "it has \(found?.size ?? 0) bytes, not \(size)")
                let read = try await context.read("resized", 0..<UInt64(size), expecting: found?.version)
                try expect(read == bytes, "it has other bytes")
            }
            return ""
        },
        ContractCheck("a removed object is absent at once") { context in
            let fixture = try context.needFixture()
            try await fixture.put("removed/object", [1, 2, 3])
            try await fixture.put("removed/other", [1])
            let version = try await context.store.lookup("removed/object")?.version
            try await fixture.remove("removed/object")
            try expect(try await context.store.lookup("removed/object") == nil, "it is still found")
            let names = try await context.names(of: "removed").entries.map(\.name)
            try expect(names == ["other"], "it is still listed")
            try await context.expectError(.notFound, .versionChanged, from: "a read of it") {
                _ = try await context.read("removed/object", 0..<3, expecting: version)
            }
            return ""
        },
        ContractCheck("an empty object is an object") { context in
            let fixture = try context.needFixture()
            try await fixture.put("hollow/empty", [])
            let found = try await context.store.lookup("hollow/empty")
            try expect(found?.kind == .file && found?.size == 0, "it is not found as an empty object")
            let listed = try await context.names(of: "hollow").entries
            try expect(listed.first?.attributes.version == found?.version, "it is listed with another version")
            return ""
        },
    ]
}
