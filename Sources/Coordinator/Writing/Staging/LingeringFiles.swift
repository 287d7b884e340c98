/// Files that may be uploaded, and need not be yet, in the order in which they came. A value without a clock of its own:
/// times are CLOCK_MONOTONIC nanoseconds.
struct LingeringFiles<File> {
    private var files: [(file: File, since: UInt64)] = []
    private var last: UInt64 = 0
    private var isWatched = false

    /// - Parameter file: nil when it lingers already; then it only says that files keep coming.
    /// - Returns: whether the caller must see to it that `takeDue` is called.
    mutating func add(_ file: File?, at now: UInt64) -> Bool {
        last = max(last, now)
        if let file { files.append((file, now)) }
        defer { isWatched = true }
        return !isWatched
    }

    /// The files that have waited for long enough: all, when none has come for `quiet`, else those that came `longest` ago.
    /// - Returns: how long after `now` to look again; nil when nothing is left.
    mutating func takeDue(at now: UInt64, _ quiet: Duration, _ longest: Duration) -> (due: [File], next: Duration?) {
        let sinceLast = Duration.nanoseconds(now - min(last, now))
        if sinceLast >= quiet { return (takeAll(), nil) }
        let due = files.prefix { .nanoseconds(now - min($0.since, now)) >= longest }.map(\.file)
        files.removeFirst(due.count)
        guard let oldest = files.first?.since else {
            isWatched = false
            return (due, nil)
        }
        let untilDue = longest - .nanoseconds(now - min(oldest, now))
        return (due, max(.milliseconds(1), min(quiet - sinceLast, untilDue)))
    }

    /// All that linger.
    mutating func takeAll() -> [File] {
        isWatched = false
        defer { files = [] }
        return files.map(\.file)
    }
}

/// The numbers of files whose records are to be written together.
struct UnsavedFiles {
    private var numbers: Set<UInt64> = []

    /// Returns whether it is the first: then somebody must `take` them soon.
    mutating func add(_ number: UInt64) -> Bool {
        let isFirst = numbers.isEmpty
        numbers.insert(number)
        return isFirst
    }

    mutating func take() -> [UInt64] {
        defer { numbers = [] }
        return numbers.sorted()
    }
}
