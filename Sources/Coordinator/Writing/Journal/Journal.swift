import Glibc
import LMDB
import Logging
import Platform

/// What must be finished after a crash: staged files, renames, and which operations of clients are done. An LMDB file that
/// survives reboots and is never begun anew silently.
///
/// A change is committed without waiting for the disk, which a crash of the process survives; `synchronize` makes all so
/// far survive a crash of the machine. A record that cannot be read is set aside and reported. Any thread that may block.
package final class Journal: Sendable {
    private static let format = "larder-journal-1"
    /// Address space, not disk: parts of a million uploads.
    private static let capacity: UInt64 = 64 << 30

    private struct State {
        var environment: LMDBEnvironment?
        weak var closing: LMDBEnvironment?
        var reports: [String] = []
        var nextNumber: UInt64 = 0
        var numbersEnd: UInt64 = 0
    }

    let staged, parts, uploads, renames, operations, meta, damaged, intents: LMDBTable
    private let state: Lock<State>
    private let attempts: OpeningAttempts
    let logger: Logger
    /// Whether the file that was there could not be used, and was moved aside.
    package let isBegunAnew: Bool
    /// Whether the machine has been restarted since the journal was last opened.
    package let isAfterReboot: Bool

    /// Opens or creates `journal.lmdb` in `directory`, which must exist and be locked by the caller. A file that cannot
    /// be used becomes `journal.lmdb.damaged-<seconds since 1970>`. Throws when not even a new one can be made.
    package init(directory: String, bootIdentifier: String, logger: Logger) throws(LMDBError) {
        self.logger = logger
        let path = directory + "/journal.lmdb"
        attempts = OpeningAttempts(directory: directory)
        var opened: Opened
        do throws(LMDBError) {
            // LMDB may end the process over a page that it cannot make sense of, again and again.
            if attempts.begin() > OpeningAttempts.patience { throw LMDBError(EIO) }
            opened = try Self.open(path)
            isBegunAnew = false
        } catch {
            let aside = "\(path).damaged-\(FileTime.now().seconds)"
            guard rename(path, aside) == 0 else { throw error }
            attempts.end()
            unlink(path + "-lock")
            opened = try Self.open(path)
            opened.reports = ["the journal could not be used (\(error)) and was moved to \(aside)"]
            isBegunAnew = true
            logger.error("\(opened.reports[0])")
        }
        (staged, parts, uploads) = (opened.tables[0], opened.tables[1], opened.tables[2])
        (renames, operations) = (opened.tables[3], opened.tables[4])
        (meta, damaged, intents) = (opened.tables[5], opened.tables[6], opened.tables[7])
        state = Lock(State(environment: opened.environment, reports: opened.reports))
        let boot = Array(bootIdentifier.utf8)
        let (environment, table, key) = (opened.environment, meta, Array("boot".utf8))
        isAfterReboot = try environment.write { (transaction) throws(LMDBError) in
            let known = try transaction.get(table, key).map { Array($0) }
            if known != boot { try transaction.put(table, key, boot) }
            return known != nil && known != boot && !boot.isEmpty
        }
    }

    private struct Opened {
        let environment: LMDBEnvironment
        let tables: [LMDBTable]
        var reports: [String] = []
    }

    private static func open(_ path: String) throws(LMDBError) -> Opened {
        let names = ["staged", "parts", "uploads", "renames", "operations", "meta", "damaged", "intents"]
        let environment = try LMDBEnvironment(
            path: path, capacity: capacity, tables: UInt32(names.count), durability: .processOnly)
        var tables: [LMDBTable] = []
        for name in names { tables.append(try environment.table(name)) }
        let (meta, key, stamp) = (tables[5], Array("format".utf8), Array(format.utf8))
        try environment.write { (transaction) throws(LMDBError) in
            if let known = try transaction.get(meta, key) {
                guard known.elementsEqual(stamp) else { throw LMDBError(EEXIST) }
            } else {
                try transaction.put(meta, key, stamp)
            }
        }
        return Opened(environment: environment, tables: tables)
    }

    /// What was set aside, one line each, for `larder status`.
    package var reports: [String] { state.withLock { $0.reports } }

    /// Makes every change so far survive a crash of the machine.
    package func synchronize() throws(LMDBError) { try environment().synchronize() }

    /// Closes the file, as a kill would; every later call fails.
    package func close() {
        let environment = state.withLock { state in
            state.closing = state.environment
            defer { state.environment = nil }
            return state.environment
        }
        withExtendedLifetime(environment) {}
    }

    /// Whether the file is closed and the last transaction has ended: LMDB files must not be open twice in a process.
    var isGone: Bool { state.withLock { $0.environment == nil && $0.closing == nil } }

    func environment() throws(LMDBError) -> LMDBEnvironment {
        guard let environment = state.withLock({ $0.environment }) else { throw LMDBError(EBADF) }
        return environment
    }

    /// Makes several changes in one step: after a crash all of them are there, or none.
    func update(_ body: (LMDBTransaction) throws(LMDBError) -> Void) throws(LMDBError) {
        try environment().write(body)
    }

    func read<Result>(
        _ body: (LMDBTransaction) throws(LMDBError) -> Result
    ) throws(LMDBError) -> Result {
        let outcome: Swift.Result<Result, LMDBError> = try environment().read(
            { (transaction) -> Swift.Result<Result, LMDBError> in
                do throws(LMDBError) { return .success(try body(transaction)) } catch { return .failure(error) }
            }, orOnFailure: { .failure($0) })
        return try outcome.get()
    }

    // How many numbers are set aside with one write.
    private static let numbersAhead: UInt64 = 1024

    /// A number that no staged file, upload or rename of this journal has had.
    package func nextNumber() throws(LMDBError) -> UInt64 {
        let ready = state.withLock { state -> UInt64? in
            guard state.nextNumber < state.numbersEnd else { return nil }
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
        if let ready { return ready }
        let key = Array("number".utf8)
        let first = try environment().write { (transaction) throws(LMDBError) in
            let last = try transaction.get(meta, key).flatMap { Self.number($0) } ?? 0
            try transaction.put(meta, key, Self.key(last + Self.numbersAhead))
            return last + 1
        }
        state.withLock { state in
            state.nextNumber = first + 1
            state.numbersEnd = first + Self.numbersAhead
        }
        return first
    }

    /// Makes `nextNumber` give numbers above `number`, which a file has that the journal did not know.
    func reserveNumbers(to number: UInt64) throws(LMDBError) {
        let key = Array("number".utf8)
        try environment().write { (transaction) throws(LMDBError) in
            let last = try transaction.get(meta, key).flatMap { Self.number($0) } ?? 0
            if number > last { try transaction.put(meta, key, Self.key(number)) }
        }
    }

    static func key(_ number: UInt64) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { Array($0) } }

    static func number(_ bytes: UnsafeRawBufferPointer) -> UInt64? {
        bytes.count == 8 ? UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)) : nil
    }

    /// Decodes every record of a table; one that is damaged goes to the table `damaged` and is reported.
    func records<Record>(
        of table: LMDBTable, named name: String, _ decode: (UInt64, UnsafeRawBufferPointer) -> Record?
    ) throws(LMDBError) -> [Record] {
        var found: [Record] = []
        var broken: [(key: [UInt8], value: [UInt8])] = []
        try read { (transaction) throws(LMDBError) in
            try transaction.scan(table, from: []) { key, value in
                if let number = Self.number(key), let record = decode(number, value) {
                    found.append(record)
                } else {
                    broken.append((Array(key), Array(value)))
                }
                return true
            }
        }
        for (key, value) in broken {
            report("a damaged record of a \(name) in the journal was set aside")
            try environment().write { (transaction) throws(LMDBError) in
                try transaction.put(damaged, Array("\(name) ".utf8) + key, value)
                try transaction.remove(table, key)
            }
        }
        return found
    }

    /// The journal could be opened and read.
    func noteRead() { attempts.end() }

    func report(_ line: String) {
        logger.error("\(line)")
        state.withLock { if !$0.reports.contains(line) { $0.reports.append(line) } }
    }
}
