import Glibc
import Platform

extension StoreContract {
    static let copyChecks: [WritingCheck] = [
        WritingCheck("a copy has the bytes and the metadata of its source") { context in
            var metadata = WrittenMetadata()
            metadata.mode = S_IFREG | 0o604
            metadata.modified = FileTime(seconds: 1_500_000_000, nanoseconds: 5)
            metadata.preserved = ["x-amz-meta-project": "larder"]
            metadata.contentType = "text/x-larder"
            let bytes = ContractContext.pattern(10_000, seed: 1)
            let source = try await context.put("from + %.txt", bytes, metadata)
            let made = try await context.copy("from + %.txt", to: "to & fro", expecting: source.version)
            try await context.expectFound(made, at: "to & fro")
            try expect(try await context.read("to & fro") == bytes, "it has other bytes")
            let found = try await context.writer.metadata(of: context.path("to & fro"))?.metadata
            try expect(found == metadata, "its metadata is \(String(describing: found))")
            try expect(made.permissions == 0o604 && made.modified == metadata.modified, "it was made as \(made)")
            return ""
        },
        WritingCheck("a copy onto itself changes the metadata alone") { context in
            let bytes = ContractContext.pattern(1000, seed: 2)
            try await context.put("self.csv", bytes)
            guard var found = try await context.writer.metadata(of: context.path("self.csv")) else {
                throw ContractFailure(description: "it has no metadata")
            }
            found.metadata.mode = S_IFREG | 0o400
            found.metadata.extendedAttributes["k"] = "v"
            let made = try await context.copy(
                "self.csv", to: "self.csv", expecting: found.attributes.version, found.metadata)
            try expect(made.permissions == 0o400 && made.size == 1000, "it was made as \(made)")
            try await context.expectFound(made, at: "self.csv")
            let after = try await context.writer.metadata(of: context.path("self.csv"))?.metadata
            try expect(after == found.metadata, "its metadata is \(String(describing: after))")
            try expect(after?.contentType == "text/csv", "its type is \(after?.contentType ?? "none")")
            try expect(try await context.read("self.csv") == bytes, "it has other bytes")
            return ""
        },
        WritingCheck("a copy of a missing or changed source, or onto what must not be there, is refused") { context in
            let source = try await context.put("origin", [1, 2, 3])
            let there = try await context.put("there", [4])
            try await context.expectError(.notFound, from: "a copy of a missing object") {
                try await context.copy("nothing", to: "there", expecting: nil)
            }
            try await context.put("origin", [5, 6])
            try await context.expectError(.versionChanged, from: "a copy of a changed object") {
                try await context.copy("origin", to: "there", expecting: source.version)
            }
            try await context.expectError(.versionChanged, from: "a copy onto an object") {
                try await context.copy("origin", to: "there", expecting: nil, if: .absent)
            }
            try await context.expectFound(there, at: "there")
            if let version = there.version {
                let made = try await context.copy("origin", to: "there", expecting: nil, if: .version(version))
                try await context.expectFound(made, at: "there")
            }
            return ""
        },
    ]

    static let treeChecks: [WritingCheck] = [
        WritingCheck("a directory without entries exists until it is removed") { context in
            var metadata = WrittenMetadata()
            metadata.mode = S_IFDIR | 0o1777
            let path = context.path("hollow")
            let made = try await context.writer.makeDirectory(path, metadata)
            try expect(made.kind == .directory, "it was made as \(made.kind)")
            try expect(try await context.store.lookup(path)?.kind == .directory, "it is not found")
            let listing = context.store.list(path)
            while let page = try await listing.nextPage() { try expect(page.entries.isEmpty, "it has entries") }
            try await context.put("hollow/file", [1])
            try await context.writer.remove(context.path("hollow/file"), if: .none)
            try expect(try await context.store.lookup(path)?.kind == .directory, "it has gone with its last entry")
            _ = try await context.writer.makeDirectory(path, .init())
            try await context.writer.removeDirectory(path)
            try await context.expectAbsent("hollow")
            try await context.writer.removeDirectory(path)
            return ""
        },
        WritingCheck("a directory keeps the metadata it was given") { context in
            var metadata = WrittenMetadata()
            metadata.mode = S_IFDIR | 0o1750
            metadata.uid = 77
            _ = try await context.writer.makeDirectory(context.path("ruled"), metadata)
            guard let found = try await context.writer.metadata(of: context.path("ruled/")) else {
                throw ContractFailure(description: "it has no marker")
            }
            try expect(found.attributes.kind == .directory, "its marker is \(found.attributes.kind)")
            guard found.metadata.mode != nil else {
                throw ContractNotApplicable("the store keeps no metadata of directories")
            }
            try expect(found.metadata.mode == metadata.mode && found.metadata.uid == 77, "it has \(found.metadata)")
            return ""
        },
        WritingCheck("a symbolic link is read back") { context in
            let made = try await context.writer.makeLink(
                context.path("link"), target: "../ziel ü", .init(), if: .absent)
            try expect(made.kind == .symbolicLink, "it was made as \(made.kind)")
            try await context.expectFound(made, at: "link")
            try expect(try await context.store.readLink(context.path("link")) == "../ziel ü", "it has another target")
            try await context.expectError(.versionChanged, from: "a second link of the name") {
                _ = try await context.writer.makeLink(context.path("link"), target: "x", .init(), if: .absent)
            }
            return ""
        },
        WritingCheck("every key below a directory is listed, and can be copied and removed") { context in
            let names: [ByteString] = ["tree/a", "tree/b/c", "tree/b/d/e", "tree/b-c"]
            for name in names { try await context.put(name, name.bytes) }
            try await context.put("tree-other", [1])
            var expected = Set(names.map { ByteString($0.bytes.dropFirst(5)) })
            do {
                _ = try await context.writer.makeDirectory(context.path("tree/empty"), .init())
                expected.insert("empty/")
            } catch let error as StoreError where error.kind == .unsupported {}
            let keys = try await context.keys(under: "tree")
            try expect(keys.count == expected.count && Set(keys) == expected, "the keys are \(keys)")
            for key in keys {
                let (from, to) = (context.path("tree/" + key), context.path("moved/" + key))
                try await context.writer.copyKey(from, to: to)
            }
            try expect(Set(try await context.keys(under: "moved")) == expected, "the copies are not all there")
            try expect(try await context.read("moved/b/d/e") == Array("tree/b/d/e".utf8), "a copy has other bytes")
            try await context.removeAll(under: "tree")
            try await context.expectFound(try await context.put("tree-other", [1]), at: "tree-other")
            return ""
        },
    ]
}

extension WritingContext {
    @discardableResult
    func copy(
        _ source: ByteString, to name: ByteString, expecting version: ObjectVersion?,
        _ metadata: WrittenMetadata? = nil, if condition: WriteCondition = .none
    ) async throws -> ObjectAttributes {
        try await writer.copy(
            path(source), expecting: version, to: path(name), metadata: metadata, if: condition)
    }
}
