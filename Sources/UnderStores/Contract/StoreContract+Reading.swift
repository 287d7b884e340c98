import Platform

extension StoreContract {
    static let readingChecks: [ContractCheck] = [
        ContractCheck("a whole object is read with its exact length") { context in
            var bytes = 0
            for file in context.files
            where file.attributes.size > 0 && file.attributes.size <= ContractContext.longestWhole {
                bytes += try await context.read(
                    file.path, 0..<file.attributes.size, expecting: file.attributes.version
                ).count
            }
            if bytes == 0 { throw ContractNotApplicable("no object of 1 byte to 16 MiB was found") }
            return "\(bytes) bytes"
        },
        ContractCheck("every range gives the bytes of that range") { context in
            let file = try context.file(ofAtLeast: 1)
            let whole = min(file.attributes.size, ContractContext.longestWhole)
            let base = try await context.read(file.path, 0..<whole)
            var ranges: [Range<UInt64>] = [0..<1, whole - 1..<whole, whole / 2..<whole / 2 + 1, 0..<whole]
            ranges += [whole / 3..<max(whole / 3 + 1, whole * 2 / 3), whole / 2..<whole, 0..<max(1, whole / 2)]
            if whole > 4096 { ranges += [4095..<4097, whole - 4096..<whole] }
            for range in ranges {
                let part = try await context.read(file.path, range, expecting: file.attributes.version)
                try expect(
                    part.elementsEqual(base[Int(range.lowerBound)..<Int(range.upperBound)]),
                    "bytes \(range) of \"\(file.path)\" differ from those of the whole")
            }
            return "\(ranges.count) ranges"
        },
        ContractCheck("the last bytes of the longest object can be read") { context in
            let file = try context.file(ofAtLeast: 2)
            let size = file.attributes.size
            _ = try await context.read(file.path, size - min(size, 4096)..<size, expecting: file.attributes.version)
            return "at \(size)"
        },
        ContractCheck("an object read in pieces has the checksum of the whole") { context in
            let file = try context.file(ofAtLeast: 16)
            let whole = min(file.attributes.size, ContractContext.longestWhole)
            let expected = ContractContext.checksum(
                try await context.read(file.path, 0..<whole, expecting: file.attributes.version))
            var pieces: [UInt8] = []
            let step = whole / 7 + 1
            for start in stride(from: 0, to: whole, by: Int(step)) {
                pieces += try await context.read(
                    file.path, start..<min(start + step, whole), expecting: file.attributes.version)
            }
            try expect(ContractContext.checksum(pieces) == expected, "the checksums of \"\(file.path)\" differ")
            return ""
        },
        ContractCheck("reads at the same time give the same bytes") { context in
            let file = try context.file(ofAtLeast: 1)
            let range = 0..<min(file.attributes.size, 4 << 20)
            let expected = try await context.read(file.path, range)
            try await withThrowingTaskGroup(of: [UInt8].self) { group in
                for _ in 0..<4 {
                    group.addTask { try await context.read(file.path, range, expecting: file.attributes.version) }
                }
                for try await bytes in group { try expect(bytes == expected, "two reads of \"\(file.path)\" differ") }
            }
            return ""
        },
        ContractCheck("reading with a wrong expected version fails with versionChanged, without a byte") { context in
            let file = try context.file(ofAtLeast: 1)
            let sink = ContractSink(from: 0)
            let received = context.store.counters.bytesReceived
            try await context.expectError(.versionChanged, from: "the read") {
                try await context.store.read(
                    file.path, range: 0..<min(file.attributes.size, 64 << 10),
                    expecting: ObjectVersion("\"larder-contract-no-such-version\""), into: sink)
            }
            try expect(sink.bytes.isEmpty, "\(sink.bytes.count) bytes were delivered")
            let counters = context.store.counters
            if counters == StoreCounters() { return "" }
            let isEnforced = counters.bytesReceived - received < min(file.attributes.size, 1024)
            return isEnforced ? "the store refuses it" : "the store sends the bytes; Larder finds out"
        },
        ContractCheck("reading a missing object fails with notFound") { context in
            try await context.expectError(.notFound, from: "the read") {
                _ = try await context.read(context.missing, 0..<1)
            }
            try await context.expectError(.notFound, .versionChanged, from: "the read with a version") {
                _ = try await context.read(context.missing, 0..<1, expecting: ObjectVersion("\"none\""))
            }
            return ""
        },
        ContractCheck("reading past the end is an error, never a short success") { context in
            let file = try context.file(ofAtLeast: 1)
            let size = file.attributes.size
            for range in [size - 1..<size + 1, size..<size + 1, size + 1000..<size + 1001] {
                do {
                    let sink = ContractSink(from: range.lowerBound)
                    try await context.store.read(
                        file.path, range: range, expecting: file.attributes.version, into: sink)
                } catch { continue }
                throw ContractFailure(description: "bytes \(range) of \(size) were read")
            }
            return ""
        },
        ContractCheck("a reader that fails ends the read with its own error") { context in
            let file = try context.file(ofAtLeast: 1)
            let sink = ContractSink(from: 0) { throw ContractSink.Refusal() }
            try await context.expectError(.sink, from: "the read") {
                try await context.store.read(
                    file.path, range: 0..<file.attributes.size, expecting: file.attributes.version, into: sink)
            }
            return ""
        },
        ContractCheck("a cancelled read ends, and delivers nothing after") { context in
            let file = try context.file(ofAtLeast: 1)
            let range = 0..<min(file.attributes.size, 64 << 20)
            let task = Lock<Task<Void, any Error>?>(nil)
            let sink = ContractSink(from: 0) { task.withLock { $0 }?.cancel() }
            let reading = Task {
                try await context.store.read(
                    file.path, range: range, expecting: file.attributes.version, into: sink)
            }
            task.withLock { $0 = reading }
            let outcome = await reading.result
            let delivered = sink.bytes.count
            if case .failure(let error) = outcome {
                try expect((error as? StoreError)?.kind == .cancelled, "it ended with \(error)")
            } else {
                try expect(delivered == range.count, "it succeeded with \(delivered) of \(range.count) bytes")
            }
            let before = Task {
                withUnsafeCurrentTask { $0?.cancel() }
                _ = try await context.read(file.path, range)
            }
            if case .failure(let error) = await before.result {
                try expect((error as? StoreError)?.kind == .cancelled, "cancelled before, it ended with \(error)")
            } else {
                throw ContractFailure(description: "a read whose task was cancelled before went on to its end")
            }
            try expect(sink.bytes.count == delivered, "bytes came after the read had ended")
            return "after \(delivered) of \(range.count) bytes"
        },
    ]
}
