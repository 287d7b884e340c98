import CLinux
import SystemPackage

extension Descriptor {
    /// pipe2(2), close-on-exec.
    package static func pipe() throws(Errno) -> (reading: Descriptor, writing: Descriptor) {
        var ends: [CInt] = [-1, -1]
        _ = try Errno.check(larder_pipe(&ends))
        return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    }
}
