import Coordination
import Platform
import SystemPackage

/// What `larder ls` does with one path: pages are printed as they come, so that memory stays bounded.
package struct DirectoryContents {
    /// Up to so many entries are sorted before they are printed; a store lists in its own order.
    private static let longestSorted = 10_000
    private static let entriesPerPage: UInt32 = 512

    private let target: NamespaceTarget
    private let json: Bool

    package init(target: NamespaceTarget, json: Bool) {
        self.target = target
        self.json = json
    }

    @available(*, noasync, message: "blocks its thread")
    package func run(_ output: Output) throws(CommandFailure) {
        let session = try ControlSession(socket: target.socket)
        defer { session.client.close() }
        var printer = EntryPrinter(json: json, path: target.path, output: output)
        printer.begin()
        if let single = try describedFile(session) {
            printer.print([single])
        } else {
            try printDirectory(session, &printer)
        }
        printer.end()
    }

    /// The target itself when it is no directory.
    private func describedFile(_ session: ControlSession) throws(CommandFailure) -> NodeReport? {
        var request = WireDescribe()
        request.inode = target.inode
        let what = "describe \(target.path)"
        guard case .description_p(let description) = try session.ask(.describe(request), what) else {
            throw session.unexpectedAnswer(what)
        }
        var report = NodeReport(description)
        guard report.kind != "directory" else { return nil }
        report.name = target.path
        return report
    }

    private func printDirectory(_ session: ControlSession, _ printer: inout EntryPrinter) throws(CommandFailure) {
        let what = "list \(target.path)"
        var waiting: [NodeReport] = []
        var isStreaming = false
        var request = WireList()
        request.directory = target.inode
        request.maximumEntries = Self.entriesPerPage
        while true {
            guard case .listPage(let page) = try session.ask(.list(request), what) else {
                throw session.unexpectedAnswer(what)
            }
            let entries = try described(page.entries, session)
            if isStreaming {
                printer.print(entries)
            } else {
                waiting += entries
                isStreaming = waiting.count > Self.longestSorted
                if isStreaming {
                    printer.print(waiting)
                    waiting = []
                }
            }
            if page.end { break }
            request.stream = page.stream
        }
        printer.print(waiting.sorted { ($0.name ?? "") < ($1.name ?? "") })
    }

    /// The entries with what is cached of the files among them: one page of questions is in flight at once.
    private func described(
        _ entries: [WireListEntry], _ session: ControlSession
    ) throws(CommandFailure) -> [NodeReport] {
        let answers = Lock([Int: WireDescription]())
        let files = entries.indices.filter { NodeReport(entries[$0].attributes).kind == "file" }
        let isDone = OneShot<CoordinationError?>()
        for index in files {
            var request = WireDescribe()
            request.inode = entries[index].attributes.inode
            session.client.request(.describe(request)) { result in
                var description = WireDescription()
                switch result {
                case .success(let reply): if case .description_p(let answer) = reply.body { description = answer }
                // Gone since it was listed: shown without what is cached.
                case .failure(let error) where error.errno != .socketNotConnected: break
                case .failure(let error): isDone.set(error)
                }
                let count = answers.withLock { answers in
                    answers[index] = description
                    return answers.count
                }
                if count == files.count { isDone.set(nil) }
            }
        }
        if !files.isEmpty, let error = isDone.wait() ?? nil {
            throw CommandFailure(error, while: "list \(target.path)")
        }
        let described = answers.withLock { $0 }
        return entries.enumerated().map { index, entry in
            var report =
                described[index].flatMap { $0.hasAttributes ? NodeReport($0) : nil } ?? NodeReport(entry.attributes)
            report.volumePath = nil
            report.setName(entry.name)
            return report
        }
    }
}

/// Prints entries as JSON or as a table, a page at a time.
private struct EntryPrinter {
    let json: Bool
    let path: String
    let output: Output
    private var count = 0

    init(json: Bool, path: String, output: Output) {
        self.json = json
        self.path = path
        self.output = output
    }

    func begin() {
        // The object is put together by hand so that a directory of a million entries need not be in memory.
        if json { output.write("{\"path\":\(JSONText.of(path, pretty: false)),\"entries\":[") }
    }

    mutating func print(_ entries: [NodeReport]) {
        if json {
            for entry in entries {
                output.write((count == 0 ? "\n" : ",\n") + JSONText.of(entry, pretty: false))
                count += 1
            }
            return
        }
        var table = TextTable([.left, .right, .right, .left, .left])
        for entry in entries {
            let isDirectory = entry.kind == "directory"
            table.add([
                entry.mode, isDirectory ? "-" : ByteSize.format(entry.size), entry.cachedText,
                entry.modified, PrintableName.of(entry.name ?? "") + (isDirectory ? "/" : ""),
            ])
        }
        output.write(table.text())
    }

    func end() { if json { output.write("\n]}") } }
}
