import Platform

extension StoreContract {
    static let fileChecks: [ContractCheck] = [
        ContractCheck("a symbolic link is shown with its target") { context in
            guard let link = context.links.first else { throw ContractNotApplicable("no symbolic link was found") }
            let target = try await context.store.readLink(link.path)
            try expect(
                UInt64(target.count) == link.attributes.size,
                "the target of \"\(link.path)\" has \(target.count) bytes, not \(link.attributes.size)")
            return ""
        },
        ContractCheck("an object is no symbolic link") { context in
            let file = try context.anyFile()
            try await context.expectError(.invalid, .unsupported, from: "readLink") {
                _ = try await context.store.readLink(file.path)
            }
            return ""
        },
        ContractCheck("a source descriptor gives the object's bytes, and only of the expected version") { context in
            let file = try context.file(ofAtLeast: 1)
            let version = file.attributes.version
            guard let source = try await context.store.openSource(file.path, expecting: version) else {
                throw ContractNotApplicable("objects of the store are not files of this node")
            }
            let size = min(file.attributes.size, 1 << 20)
            let expected = try await context.read(file.path, 0..<size)
            var bytes = [UInt8](repeating: 0, count: Int(size))
            let count = try bytes.withUnsafeMutableBytes { try source.read(into: $0, at: 0) }
            try expect(count == bytes.count && bytes == expected, "the descriptor has other bytes")
            try await context.expectError(.versionChanged, from: "openSource with a wrong version") {
                _ = try await context.store.openSource(file.path, expecting: ObjectVersion("none"))
            }
            return ""
        },
        ContractCheck("the space adds up") { context in
            guard let space = try await context.store.space() else {
                throw ContractNotApplicable("the store has no bound")
            }
            try expect(space.freeBytes <= space.totalBytes, "more is free than there is")
            try expect(space.availableBytes <= space.freeBytes, "more is available than free")
            return "\(space.availableBytes >> 20) MiB available"
        },
    ]
}
