import Platform

/// Turns the pages of a delimited S3 listing into directory entries, page by page and in bounded memory.
///
/// S3 lists in byte order, with the directory `a` at the place of `a/`. The object `a` comes before it, but `a!`, `a-b`
/// and `a.txt` come between. So an object is held back until the listing has passed the place where a directory of its
/// name would stand; if that directory comes, it wins and the object is reported as shadowed. What is held back is a
/// chain of names each of which is a proper prefix of the next: 255 at most.
package struct ListingMerger: Sendable {
    /// The part of the keys that names the listed directory: empty or ending with a slash.
    private let prefix: ByteString
    private var held: [(entry: DirectoryEntry, turningPoint: ByteString)] = []
    private var last: ByteString?
    /// Whether any key was seen, the directory's own marker included.
    package private(set) var hasKeys = false

    /// One line of a listing.
    package enum Item: Sendable {
        case object(key: ByteString, ObjectAttributes)
        /// A key prefix ending with the delimiter.
        case directory(prefix: ByteString, ObjectAttributes)

        var place: ByteString {
            switch self {
            case .object(let key, _): key
            case .directory(let prefix, _): prefix
            }
        }
    }

    package init(prefix: ByteString) { self.prefix = prefix }

    /// Adds one page, whose items may be in any order among themselves.
    ///
    /// Throws `.protocolViolation` when a key is listed twice, is no part of the directory, or does not come after all
    /// of the pages before: such a listing might go on for ever.
    package mutating func add(_ items: [Item]) throws(StoreError) -> ListingPage {
        var page = ListingPage(entries: [])
        page.entries.reserveCapacity(items.count)
        for item in items.sorted(by: { $0.place < $1.place }) {
            let place = item.place
            if let last, place <= last {
                throw StoreError(
                    .protocolViolation,
                    "the listing makes no progress: \"\(place.description.printable)\" after \"\(last.description.printable)\""
                )
            }
            guard place.hasPrefix(prefix) else {
                throw StoreError(
                    .protocolViolation, "the listing of \"\(prefix)\" has \"\(place.description.printable)\"")
            }
            last = place
            hasKeys = true
            pass(place, into: &page)
            add(item, to: &page)
        }
        return page
    }

    /// What was still held back when the listing ended.
    package mutating func finish() -> ListingPage {
        defer { held = [] }
        return ListingPage(entries: held.reversed().map(\.entry))
    }

    /// Releases the objects whose directory can no longer come.
    private mutating func pass(_ place: ByteString, into page: inout ListingPage) {
        while let top = held.last, top.turningPoint < place {
            page.entries.append(top.entry)
            held.removeLast()
        }
    }

    private mutating func add(_ item: Item, to page: inout ListingPage) {
        switch item {
        case .object(let key, let attributes):
            guard key != prefix else { return }  // the marker of the directory itself
            let name = ByteString(key.bytes[prefix.count...])
            guard !name.hasPrefix(S3Probe.mark) else { return }
            guard name.isNameable else {
                page.unnameable += 1
                return
            }
            held.append((DirectoryEntry(name: name, attributes: attributes), key + "/"))
        case .directory(let directory, let attributes):
            let name = ByteString(directory.bytes[prefix.count...].dropLast())
            guard !name.hasPrefix(S3Probe.mark) else { return }
            guard name.isNameable else {
                page.unnameable += 1
                return
            }
            if let top = held.last, top.turningPoint == directory {
                page.shadowed.append(name)
                held.removeLast()
            }
            page.entries.append(DirectoryEntry(name: name, attributes: attributes))
        }
    }
}
