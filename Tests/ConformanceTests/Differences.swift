import CLinux
import Glibc

/// What a target has not at all, so that cases leave it out.
enum Feature: CaseIterable, Sendable {
    /// Pipes, sockets and devices.
    case nodes
    case hardLinks
    /// RENAME_EXCHANGE.
    case exchange
    /// O_TMPFILE.
    case namelessFiles
    /// FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE.
    case collapsing
    /// A directory's link count says how many directories are in it; without, it is 1 (as on btrfs), or 2.
    case directoryLinks
    /// Paths that together are longer than 1024 bytes.
    case longPaths
    /// Files of which gigabytes are holes cost nothing.
    case sparseFiles
}

extension ConformanceTarget {
    /// What is missing and the errno that says so (0 where no call fails). Checked for being exact by the cases
    /// `lacking`; `docs/semantics.md` says the same to users.
    var lacks: [Feature: CInt] {
        switch self {
        case .ext4: [:]
        // libfuse 3.14 passes neither on.
        case .localMount: [.namelessFiles: EOPNOTSUPP, .collapsing: EOPNOTSUPP]
        case .s3Mount:
            [
                .nodes: EPERM, .hardLinks: EPERM, .exchange: EINVAL, .namelessFiles: EOPNOTSUPP,
                .collapsing: EOPNOTSUPP, .directoryLinks: 0, .longPaths: ENAMETOOLONG, .sparseFiles: 0,
            ]
        }
    }
}

/// A place where a target is known not to be what ext4 is, and why. `docs/semantics.md` says the same to users.
///
/// The suite fails when one is missing here, and as well when one is here that does not exist.
struct Difference: Sendable {
    let target: ConformanceTarget
    /// The name of the case, and of the check in it.
    let testCase: String
    let check: String
    /// What the call gives there; nil for a check that is not of an errno.
    let errorNumber: CInt?
    let reason: String

    private static let attributesCase = "extended attributes are set, replaced, listed, sized and removed"

    static let documented: [Difference] = [
        Difference(
            target: .s3Mount,
            testCase: "a punched or zeroed range reads as zeros and leaves the rest and the size alone",
            check: "its blocks", errorNumber: nil, reason: "blocks are counted from the size of the object"),
        Difference(
            target: .s3Mount, testCase: attributesCase, check: "2000 bytes", errorNumber: ENOSPC,
            reason: "S3 keeps 2 KiB of metadata with an object, in Base64"),
        Difference(
            target: .s3Mount, testCase: attributesCase, check: "2000 bytes again", errorNumber: nil,
            reason: "they were refused"),
        Difference(
            target: .s3Mount, testCase: attributesCase, check: "the value after a rename", errorNumber: nil,
            reason: "they were refused"),
    ]
}

extension ConformanceCase {
    static let lacking: [ConformanceCase] = [
        ConformanceCase("what a target lacks is refused with the documented errno, and nothing else is") { s in
            try s.need("make", s.at.make("f", String(repeating: "x", count: 300_000)))
            try s.need("make", s.at.make("g"))
            try s.need("mkdir", s.at.mkdir("d"))
            try s.need("mkdir", s.at.mkdir("d/sub"))
            let file = try s.require("the file", s.at.open("f", O_RDWR).file)
            func wanted(_ feature: Feature) -> CInt { s.target.lacks[feature] ?? 0 }
            s.expect("a pipe", wanted(.nodes), s.at.mknod("pipe", S_IFIFO | 0o600))
            s.expect("a socket", wanted(.nodes), s.at.mknod("socket", S_IFSOCK | 0o600))
            s.expect("a device", wanted(.nodes), s.at.mknod("device", S_IFCHR | 0o600, 0x103))
            s.expect("a hard link", wanted(.hardLinks), s.at.link("f", "h"))
            s.expect("RENAME_EXCHANGE", wanted(.exchange), s.at.rename("f", "g", flags: 2))
            s.expect("O_TMPFILE", wanted(.namelessFiles), s.at.openError("", O_RDWR | 0o20_000_000 | O_DIRECTORY))
            s.expect(
                "FALLOC_FL_COLLAPSE_RANGE", wanted(.collapsing), -larder_fallocate(file.raw, 0x08, 0, 1 << 17))
            let links = s.at.links("d")
            s.check(
                "a directory's links", s.has(.directoryLinks) ? links == 3 : links == 1 || links == 2)
            var deep = s.at
            var error: CInt = 0
            while error == 0, deep.root.utf8.count - s.at.root.utf8.count < 1200 {
                error = deep.mkdir(String(repeating: "d", count: 200))
                deep = deep.below(String(repeating: "d", count: 200))
            }
            s.expect("a path of more than 1024 bytes", wanted(.longPaths), error)
        }
    ]
}
