import Coordination

/// Turns progress messages into lines: a bar on a terminal, now and then a plain line elsewhere. Pure: the time is given.
package struct LoadProgress {
    package enum Style: Hashable, Sendable {
        /// One line that is drawn again; of so many columns.
        case bar(columns: Int)
        case lines
    }

    /// Fast enough to look alive, slow enough not to be work.
    private static let barInterval = 0.1
    private static let lineInterval = 5.0
    /// Seconds over which the rate forgets: long enough for a steady ETA, short enough to show a stall.
    private static let rateMemory = 5.0

    private let style: Style
    private var lastDrawn: Double?
    private var lastSample: (time: Double, bytes: UInt64)?
    /// Bytes per second; nil until two samples are there.
    private var rate: Double?

    package init(style: Style) { self.style = style }

    /// - Parameter time: seconds since the load began; never goes back.
    /// - Returns: what to print now, or nil.
    package mutating func update(_ progress: WireProgress, at time: Double) -> String? {
        sample(progress.bytesDone, at: time)
        let interval = if case .bar = style { Self.barInterval } else { Self.lineInterval }
        if let lastDrawn, time - lastDrawn < interval, !progress.end { return nil }
        lastDrawn = time
        switch style {
        case .bar(let columns):
            let line = bar(progress, columns: columns)
            return progress.end ? "\r\u{1b}[K" : "\r\(line)\u{1b}[K"
        case .lines: return progress.end ? nil : facts(progress).joined(separator: ", ") + "\n"
        }
    }

    private mutating func sample(_ bytes: UInt64, at time: Double) {
        guard let last = lastSample else {
            lastSample = (time, bytes)
            return
        }
        // Many messages may come at once; a rate over no time says nothing.
        guard time - last.time >= 0.05 else { return }
        let current = Double(bytes >= last.bytes ? bytes - last.bytes : 0) / (time - last.time)
        // Weighted by time, as the messages come at no fixed pace.
        let weight = min(1, (time - last.time) / Self.rateMemory)
        rate = rate.map { $0 * (1 - weight) + current * weight } ?? current
        lastSample = (time, bytes)
    }

    /// "[=====>     ]  45%  1.2 GiB of 2.7 GiB, 118 MiB/s, 13 s left"
    private func bar(_ progress: WireProgress, columns: Int) -> String {
        let text = facts(progress).joined(separator: ", ")
        let width = min(30, columns - text.count - 10)
        guard progress.totalKnown, progress.bytesTotal > 0, width >= 5 else {
            return String(text.prefix(max(0, columns - 1)))
        }
        let share = min(1, Double(progress.bytesDone) / Double(progress.bytesTotal))
        let filled = Int(share * Double(width))
        let drawn = String(repeating: "=", count: filled) + (filled < width ? ">" : "")
        let empty = String(repeating: " ", count: width - drawn.count)
        let percent = "\(Int(share * 100))%"
        return "[\(drawn)\(empty)] \(String(repeating: " ", count: 4 - percent.count))\(percent)  \(text)"
    }

    private func facts(_ progress: WireProgress) -> [String] {
        let total = progress.totalKnown ? " of \(ByteSize.format(progress.bytesTotal))" : ""
        let files =
            progress.totalKnown
            ? "\(progress.filesDone) of \(progress.filesTotal) files" : "\(progress.filesDone) files"
        var facts = ["\(ByteSize.format(progress.bytesDone))\(total)", files]
        if let rate {
            facts.append("\(ByteSize.format(UInt64(rate)))/s")
            if progress.totalKnown, rate >= 1, progress.bytesTotal > progress.bytesDone {
                let left = Double(progress.bytesTotal - progress.bytesDone) / rate
                facts.append("\(TimeSpan.format(seconds: left)) left")
            }
        }
        if progress.failures > 0 { facts.append("\(progress.failures) failed") }
        return facts
    }
}
