import Glibc
import Platform

/// The keys of a `MemoryStore` and the directories they imply. A value: no lock, no waiting.
struct MemoryObjects {
    struct Object {
        let bytes: [UInt8]
        let version: ObjectVersion
        /// When it was put; what a reader is told may be among the metadata.
        let modified: FileTime
        var metadata = WrittenMetadata()
    }

    /// Where a page of a listing starts: at the first key that is not before `key`.
    struct Position {
        let key: ByteString
        static let start = Position(key: "")
    }

    enum PageResult {
        case absent
        case object
        case page(ListingPage, next: Position?)
    }

    private(set) var objects: [ByteString: Object] = [:]
    private var sorted: [ByteString]?
    private var changes: Int64 = 0

    private static let slash = UInt8(ascii: "/")
    /// The byte after the slash: `directory + "0"` is the first key after all those under the directory.
    private static let afterSlash = slash + 1
    /// When nothing has changed yet; a directory without a marker always has it.
    private static let epoch = FileTime(seconds: 1_000_000_000)

    @discardableResult
    mutating func put(_ key: ByteString, _ bytes: [UInt8], _ metadata: WrittenMetadata = .init()) -> ObjectVersion {
        changes += 1
        let version = ObjectVersion(ByteString("v\(changes)"))
        let time = FileTime(seconds: Self.epoch.seconds + changes)
        if objects.updateValue(
            Object(bytes: bytes, version: version, modified: time, metadata: metadata), forKey: key) == nil
        {
            sorted = nil
        }
        return version
    }

    mutating func remove(_ key: ByteString) -> Bool {
        guard objects.removeValue(forKey: key) != nil else { return false }
        changes += 1
        sorted = nil
        return true
    }

    mutating func sortedKeys() -> [ByteString] {
        if let sorted { return sorted }
        let keys = objects.keys.sorted()
        sorted = keys
        return keys
    }

    mutating func attributes(of path: ByteString) -> ObjectAttributes? {
        if isDirectory(path) { return directory(path) }
        guard Self.isNameable(path) else { return nil }
        return objects[path].map(Self.file)
    }

    mutating func page(of path: ByteString, from start: Position, limit: Int) -> PageResult {
        guard isDirectory(path) else { return attributes(of: path) == nil ? .absent : .object }
        let prefix = path.isEmpty ? path : ByteString(path.bytes + [Self.slash])
        let keys = sortedKeys()
        var page = ListingPage(entries: [])
        var resume = max(start.key, prefix)
        var index = Self.firstIndex(in: keys, notBefore: resume)
        while index < keys.count, keys[index].hasPrefix(prefix) {
            let key = keys[index]
            if page.entries.count + page.unnameable == limit { return .page(page, next: Position(key: resume)) }
            let rest = key.bytes.dropFirst(prefix.count)
            guard let end = rest.firstIndex(of: Self.slash) else {
                index += 1
                resume = ByteString(key.bytes + [0])
                if rest.isEmpty { continue }  // the marker of this directory
                add(ByteString(rest), key, to: &page)
                continue
            }
            let directory = ByteString(key.bytes[..<end])
            let name = ByteString(rest[..<end])
            if name.isNameable {
                page.entries.append(DirectoryEntry(name: name, attributes: self.directory(directory)))
            } else {
                page.unnameable += 1
            }
            resume = ByteString(directory.bytes + [Self.afterSlash])
            index = Self.firstIndex(in: keys, notBefore: resume)
        }
        return .page(page, next: nil)
    }

    private mutating func add(_ name: ByteString, _ key: ByteString, to page: inout ListingPage) {
        guard name.isNameable, let object = objects[key] else {
            page.unnameable += 1
            return
        }
        // `a` sorts before `a-b` and that before `a/b`, so the directory may come pages later: ask for it by key.
        if isDirectory(key) {
            page.shadowed.append(name)
        } else {
            page.entries.append(DirectoryEntry(name: name, attributes: Self.file(object)))
        }
    }

    private mutating func isDirectory(_ path: ByteString) -> Bool {
        if path.isEmpty { return true }
        guard Self.isNameable(path) else { return false }
        let prefix = ByteString(path.bytes + [Self.slash])
        let keys = sortedKeys()
        let index = Self.firstIndex(in: keys, notBefore: prefix)
        return index < keys.count && keys[index].hasPrefix(prefix)
    }

    private func directory(_ path: ByteString) -> ObjectAttributes {
        guard let marker = objects[ByteString(path.bytes + [Self.slash])] else {
            return ObjectAttributes(kind: .directory, modified: Self.epoch)
        }
        return Self.attributes(marker, kind: .directory)
    }

    static func file(_ object: Object) -> ObjectAttributes {
        let isLink = object.metadata.mode.map { $0 & S_IFMT == S_IFLNK } ?? false
        return attributes(object, kind: isLink ? .symbolicLink : .file)
    }

    /// As a lookup shows an object of the kind.
    static func attributes(_ object: Object, kind: ObjectKind) -> ObjectAttributes {
        let isDirectory = kind == .directory
        return ObjectAttributes(
            kind: kind, size: isDirectory ? 0 : UInt64(object.bytes.count), version: isDirectory ? nil : object.version,
            modified: object.metadata.modified ?? object.modified,
            permissions: object.metadata.mode.map { $0 & 0o7777 },
            uid: object.metadata.uid, gid: object.metadata.gid)
    }

    private static func isNameable(_ path: ByteString) -> Bool {
        path.bytes.split(separator: slash, omittingEmptySubsequences: false).allSatisfy { ByteString($0).isNameable }
    }

    /// Up to `limit` keys that begin with `prefix`, markers included, from the first after `last` on.
    mutating func keys(with prefix: ByteString, after last: ByteString?, limit: Int) -> [ByteString] {
        let keys = sortedKeys()
        let start = last.map { ByteString($0.bytes + [0]) } ?? prefix
        let index = Self.firstIndex(in: keys, notBefore: max(start, prefix))
        return Array(keys[index...].prefix(limit).prefix { $0.hasPrefix(prefix) })
    }

    private static func firstIndex(in keys: [ByteString], notBefore key: ByteString) -> Int {
        var low = 0
        var high = keys.count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
