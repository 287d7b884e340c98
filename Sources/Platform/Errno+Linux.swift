import SystemPackage

extension Errno {
    /// Turns the result of a CLinux call (a value, or `-errno`) into a value or a thrown `Errno`.
    package static func check<Result: FixedWidthInteger & SignedInteger>(_ result: Result) throws(Errno) -> Result {
        guard result >= 0 else { throw Errno(rawValue: CInt(-result)) }
        return result
    }
}
