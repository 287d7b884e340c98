/// The text after `-o`: `k=v,flag,…`, as mount(8) and fstab(5) write it.
package enum OptionList {
    /// Splits at commas; a backslash makes the next character literal, so that a value may hold a comma.
    package static func parse(_ text: String) -> [(key: String, value: String?)] {
        var options: [(key: String, value: String?)] = []
        var current = ""
        var isEscaped = false
        func finish() {
            guard !current.isEmpty else { return }
            if let equals = current.firstIndex(of: "=") {
                options.append((String(current[..<equals]), String(current[current.index(after: equals)...])))
            } else {
                options.append((current, nil))
            }
            current = ""
        }
        for character in text {
            if isEscaped {
                current.append(character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if character == "," {
                finish()
            } else {
                current.append(character)
            }
        }
        finish()
        return options
    }

    /// The opposite of `parse`.
    package static func text(_ options: [(key: String, value: String?)]) -> String {
        options.map { key, value in
            guard let value else { return key }
            let escaped = value.replacing("\\", with: "\\\\").replacing(",", with: "\\,")
            return "\(key)=\(escaped)"
        }.joined(separator: ",")
    }

    /// What mount(8), systemd and libfuse add for themselves, and what every mount of ours is anyway.
    package static func isNoise(_ key: String) -> Bool {
        if key.hasPrefix("x-") || key.hasPrefix("X-") || key.hasPrefix("comment") { return true }
        return noise.contains(key)
    }

    /// Options of any mount, which are handed on to the kernel.
    package static func isKernelOption(_ key: String) -> Bool {
        ["nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "strictatime"].contains(key)
            || key.hasSuffix("context")
    }

    private static let noise: Set<String> = [
        "defaults", "_netdev", "nofail", "auto", "noauto", "user", "nouser", "users", "owner", "group", "uhelper",
        "helper", "rw", "dev", "suid", "exec", "async", "sync", "dirsync", "atime", "diratime", "norelatime",
        "lazytime", "nolazytime",
        "default_permissions", "fsname", "subtype", "loud", "silent", "mand", "nomand",
    ]
}
