import Platform

extension StoreContract {
    static let namespaceChecks: [ContractCheck] = [
        ContractCheck("the root is a directory") { context in
            guard let root = try await context.store.lookup("") else {
                throw ContractFailure(description: "it is absent")
            }
            try expect(root.kind == .directory, "it is a \(root.kind)")
            try expect(root.version == nil, "it has a version")
            return ""
        },
        ContractCheck("a listing shows each name once, and the same names again") { context in
            var total = 0
            for directory in context.directories {
                let first = try await context.names(of: directory, limit: 5000).entries.map(\.name)
                let again = try await context.names(of: directory, limit: 5000).entries.map(\.name)
                try expect(Set(first) == Set(again), "two listings of \"\(directory)\" differ")
                total += first.count
            }
            return "\(total) names in \(context.directories.count) directories"
        },
        ContractCheck("a listing that has ended stays at its end") { context in
            let listing = context.store.list("")
            while try await listing.nextPage() != nil {}
            try expect(try await listing.nextPage() == nil, "a page came after the last")
            return ""
        },
        ContractCheck("a lookup finds what a listing shows: kind, size and version") { context in
            var count = 0
            for sample in context.files + context.links.prefix(4) {
                guard let found = try await context.store.lookup(sample.path) else {
                    throw ContractFailure(description: "\"\(sample.path)\" is listed but not found")
                }
                let listed = sample.attributes
                try expect(found.kind == listed.kind, "\"\(sample.path)\" is a \(listed.kind) and a \(found.kind)")
                try expect(found.size == listed.size, "\"\(sample.path)\" has \(listed.size) and \(found.size) bytes")
                try expect(found.version == listed.version, "\"\(sample.path)\" has different versions")
                try expect(found.version != nil, "\"\(sample.path)\" has no version")
                count += 1
            }
            for directory in context.directories {
                let found = try await context.store.lookup(directory)
                try expect(found?.kind == .directory, "the directory \"\(directory)\" is not found as one")
                count += 1
            }
            return "\(count) objects and directories"
        },
        ContractCheck("a missing name is absent") { context in
            for directory in context.directories.prefix(4) {
                let path = directory.appending(component: context.missing)
                try expect(try await context.store.lookup(path) == nil, "\"\(path)\" is found")
            }
            return ""
        },
        ContractCheck("a name in a missing directory is absent") { context in
            let path = context.missing.appending(component: "x")
            try expect(try await context.store.lookup(path) == nil, "\"\(path)\" is found")
            return ""
        },
        ContractCheck("a name under an object is absent") { context in
            let path = try context.anyFile().path.appending(component: "x")
            try expect(try await context.store.lookup(path) == nil, "\"\(path)\" is found")
            return ""
        },
        ContractCheck("paths that no file can have are absent") { context in
            let file = try context.anyFile().path
            let impossible: [ByteString] = [
                "..", ".", "../" + file, "./" + file, "/" + file, file + "/", file + "\0", file + "//x",
            ]
            for path in impossible {
                try expect(try await context.store.lookup(path) == nil, "\"\(path)\" is found")
            }
            return ""
        },
        ContractCheck("listing a missing directory fails with notFound") { context in
            try await context.expectError(.notFound, from: "the listing") {
                _ = try await context.store.list(context.missing).nextPage()
            }
            return ""
        },
        ContractCheck("listing an object fails with notDirectory") { context in
            let file = try context.anyFile()
            try await context.expectError(.notDirectory, from: "the listing") {
                _ = try await context.store.list(file.path).nextPage()
            }
            return ""
        },
        ContractCheck("names of any bytes are listed, found and read") { context in
            let fixture = try context.needFixture()
            // The é once composed and once as e with an accent: two names to a store, one to Swift's String.
            let names: [ByteString] = [
                "white space", "plus+and%20percent", "caf\u{e9}", "cafe\u{301}", "quote\"'<&>;", "日本語", "hash#?query=1",
                "-dash", "~tilde", "=equals,comma", "back\\slash", "tab\tname",
            ]
            var kept: [ByteString] = []
            for name in names {
                do {
                    try await fixture.put(ByteString("names").appending(component: name), name.bytes)
                    kept.append(name)
                } catch is ContractNotApplicable {}
            }
            let listed = try await context.names(of: "names").entries
            for name in kept {
                try expect(listed.contains { $0.name == name }, "\"\(name)\" is not listed")
                let path = ByteString("names").appending(component: name)
                let found = try await context.store.lookup(path)
                try expect(found?.size == UInt64(name.count), "\"\(name)\" is not found")
                try expect(
                    try await context.read(path, 0..<UInt64(name.count)) == name.bytes, "\"\(name)\" has other bytes")
            }
            let strange = listed.map(\.name).filter { !kept.contains($0) }
            try expect(strange.isEmpty, "names are listed that are not there: \(strange)")
            return kept.count == names.count
                ? "" : "the store refuses \(names.count - kept.count) of \(names.count) names"
        },
        ContractCheck("a long listing comes whole") { context in
            let fixture = try context.needFixture()
            let count = fixture.manyObjects
            let names = (0..<count).map { ByteString("object-\($0)") }
            try await fixture.put(names.map { ByteString("many").appending(component: $0) }, [1])
            let listing = try await context.names(of: "many")
            try expect(
                Set(listing.entries.map(\.name)) == Set(names), "\(listing.entries.count) of \(count) names are listed")
            return "\(count) names in \(listing.pages) pages"
        },
        ContractCheck("a cancelled listing ends with cancelled") { context in
            let task = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                try await context.expectError(.cancelled, from: "the listing") {
                    _ = try await context.store.list("").nextPage()
                }
            }
            try await task.value
            return ""
        },
    ]
}
