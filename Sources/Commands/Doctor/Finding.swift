/// One thing that the doctor looked at. In `doctor --json` an array of these.
package struct Finding: Encodable, Hashable, Sendable {
    package enum Verdict: String, Encodable, Hashable, Sendable {
        case ok
        /// Larder works, but not as well as it could.
        case warning
        /// Larder does not work.
        case failure
    }

    /// What was looked at: "kernel", "fusermount3", ….
    package let name: String
    package let verdict: Verdict
    package let detail: String
    /// What to do about it; nil when nothing is wrong.
    package let remedy: String?

    package static func ok(_ name: String, _ detail: String) -> Finding {
        Finding(name: name, verdict: .ok, detail: detail, remedy: nil)
    }
    package static func warning(_ name: String, _ detail: String, remedy: String) -> Finding {
        Finding(name: name, verdict: .warning, detail: detail, remedy: remedy)
    }
    package static func failure(_ name: String, _ detail: String, remedy: String) -> Finding {
        Finding(name: name, verdict: .failure, detail: detail, remedy: remedy)
    }

    /// One line, and one for the remedy.
    package var text: String {
        let word =
            switch verdict {
            case .ok: "ok  "
            case .warning: "warn"
            case .failure: "FAIL"
            }
        let first = "\(word)  \(name): \(PrintableName.of(detail))\n"
        return remedy.map { first + "      -> \($0)\n" } ?? first
    }
}
