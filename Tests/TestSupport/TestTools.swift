import Glibc
import Platform

/// A test cannot run as it stands; never a reason to skip it.
package struct TestSetupError: Error, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}

/// Where the programs that tests start are: `$LARDER_TOOLS`, or `.tools` in the package, as `scripts/setup` makes it.
package enum TestTools {
    /// The directory of Package.swift and Sources, found upwards of this file with its symbolic links resolved.
    package static let packageRoot: String = {
        var path = resolved(#filePath)
        while path != "/", !path.isEmpty {
            path = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
            if access("\(path)/Package.swift", R_OK) == 0, access("\(path)/Sources", R_OK) == 0 { return path }
        }
        return "."
    }()

    package static var directory: String {
        if let named = getenv("LARDER_TOOLS") { return String(cString: named) }
        return "\(packageRoot)/.tools"
    }

    /// The path of a program by its name: in `bin`, `venv/bin` of the tools, or of the system. Throws when it is
    /// missing.
    package static func path(_ name: String) throws -> String {
        let places = ["\(directory)/bin", "\(directory)/venv/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        for place in places where access("\(place)/\(name)", X_OK) == 0 { return "\(place)/\(name)" }
        throw TestSetupError("\(name) is neither in \(directory) nor in /usr/bin: run scripts/setup")
    }

    private static func resolved(_ path: String) -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }
}
