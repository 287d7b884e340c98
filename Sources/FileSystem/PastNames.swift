import Coordination
import Platform

/// What a directory handle has shown and no longer keeps whole, so that seekdir(3) finds each name where telldir(3) said:
/// its number, name, inode and type, packed to some ten bytes beside the name.
struct PastNames {
    private struct Page {
        let first: UInt64
        let count: Int
        let bytes: [UInt8]
        var end: UInt64 { first + UInt64(count) }
    }

    /// In ascending order of their numbers; not always without gaps.
    private var pages: [Page] = []
    private var size = 0

    /// A hundred thousand names of common length. Beyond, the first are forgotten.
    private static let limit = 4 << 20

    mutating func add(_ entries: [WireListEntry], first: UInt64) {
        guard !entries.isEmpty, first >= pages.last?.end ?? 0 else { return }
        var writer = RecordWriter()
        for entry in entries {
            writer.integer(entry.attributes.inode)
            writer.integer(entry.attributes.mode)
            writer.bytes(ByteString(entry.name))
        }
        pages.append(Page(first: first, count: entries.count, bytes: writer.bytes))
        size += writer.bytes.count
        while size > Self.limit, pages.count > 1 { size -= pages.removeFirst().bytes.count }
    }

    mutating func removeAll() { self = PastNames() }

    /// Whether a page ends before number `from` and none begins there.
    func isEnd(_ from: UInt64) -> Bool {
        pages.contains { $0.end == from } && !pages.contains { $0.first <= from && from < $0.end }
    }

    /// The entries from number `from` on, as many as one page has; nil when that number is not known.
    func entries(from: UInt64) -> [WireListEntry]? {
        guard let page = pages.first(where: { $0.first <= from && from < $0.end }) else { return nil }
        return page.bytes.withUnsafeBytes { bytes in
            var reader = RecordReader(bytes)
            var entries: [WireListEntry] = []
            for number in page.first..<page.end {
                guard let inode = reader.integer(UInt64.self), let mode = reader.integer(UInt32.self),
                    let name = reader.bytes()
                else { return nil }
                guard number >= from else { continue }
                var entry = WireListEntry()
                entry.name = name.data
                entry.attributes.inode = inode
                entry.attributes.mode = mode
                entries.append(entry)
            }
            return entries
        }
    }
}
