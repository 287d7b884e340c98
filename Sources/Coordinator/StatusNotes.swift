import Logging
import Platform

/// What works less well than it could and why: one line each, logged when it first happens and shown by `larder status`.
final class StatusNotes: Sendable {
    private let notes = Lock<[String: String]>([:])
    private let logger: Logger

    init(logger: Logger) { self.logger = logger }

    func set(_ topic: String, _ note: String) {
        let isNew = notes.withLock { notes in
            defer { notes[topic] = note }
            return notes[topic] != note
        }
        if isNew { logger.notice("\(note)") }
    }

    func all() -> [String] { notes.withLock { $0.sorted { $0.key < $1.key }.map(\.value) } }
}
