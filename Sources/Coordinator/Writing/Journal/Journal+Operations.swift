import LMDB
import Platform

/// Operations of clients that are done, with their answers, so that one that is sent again is not done again.
extension Journal {
    /// How many answers are kept of each client: more than one can have under way.
    package static let operationsPerClient = 4096

    /// `client` has 16 bytes.
    static func key(_ client: ByteString, _ operation: UInt64) -> [UInt8] { client.bytes + key(operation) }

    /// The answer to an operation that is done; nil when it is not known.
    package func result(of operation: UInt64, by client: ByteString) throws(LMDBError) -> [UInt8]? {
        try read { (transaction) throws(LMDBError) in
            try transaction.get(operations, Self.key(client, operation)).map { Array($0) }
        }
    }

    /// Notes the answer, and forgets the client's answers that are too old to be asked for.
    package func note(_ result: [UInt8], of operation: UInt64, by client: ByteString) throws(LMDBError) {
        try update { (transaction) throws(LMDBError) in
            try note(result, of: operation, by: client, transaction)
        }
    }

    func note(
        _ result: [UInt8], of operation: UInt64, by client: ByteString, _ transaction: LMDBTransaction
    ) throws(LMDBError) {
        try transaction.put(operations, Self.key(client, operation), result)
        try transaction.remove(intents, Self.key(client, operation))
        guard operation > UInt64(Self.operationsPerClient) else { return }
        let oldest = operation - UInt64(Self.operationsPerClient)
        var stale: [[UInt8]] = []
        try transaction.scan(operations, from: Self.key(client, 0)) { key, _ in
            guard key.count == 24, key.prefix(16).elementsEqual(client.bytes) else { return false }
            let number = UInt64(bigEndian: key.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
            // A few at a time: each operation takes away as many as it brings, and one more.
            guard number <= oldest, stale.count < 2 else { return false }
            stale.append(Array(key))
            return true
        }
        for key in stale { try transaction.remove(operations, key) }
    }

    /// The clients of whom answers are kept.
    package func operationClients() throws(LMDBError) -> [ByteString] {
        try read { (transaction) throws(LMDBError) in
            var clients: [ByteString] = []
            while true {
                // Behind all numbers of the last one.
                let start = clients.last.map { $0.bytes + [UInt8](repeating: 0xFF, count: 9) } ?? []
                let known = clients.count
                try transaction.scan(operations, from: start) { key, _ in
                    clients.append(ByteString(key.prefix(16)))
                    return false
                }
                if clients.count == known { return clients }
            }
        }
    }

    /// Forgets a client that will not come back.
    package func forgetOperations(of client: ByteString) throws(LMDBError) {
        try environment().write { (transaction) throws(LMDBError) in
            for table in [operations, intents] {
                var keys: [[UInt8]] = []
                try transaction.scan(table, from: client.bytes) { key, _ in
                    guard key.prefix(client.count).elementsEqual(client.bytes) else { return false }
                    keys.append(Array(key))
                    return true
                }
                for key in keys { try transaction.remove(table, key) }
            }
        }
    }
}
