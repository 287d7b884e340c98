import Platform

/// The media type of an object by the suffix of its name, so that a browser or another reader of the bucket knows what
/// it gets ("Media Types", IANA).
enum ContentType {
    static let directory = "application/x-directory"
    static let unknown = "application/octet-stream"

    private static let bySuffix: [String: String] = [
        "avi": "video/x-msvideo", "avro": "application/avro", "bmp": "image/bmp", "bz2": "application/x-bzip2",
        "c": "text/x-c", "css": "text/css", "csv": "text/csv", "doc": "application/msword",
        "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "gif": "image/gif", "gz": "application/gzip", "h5": "application/x-hdf5", "htm": "text/html",
        "html": "text/html", "ico": "image/vnd.microsoft.icon", "ipynb": "application/x-ipynb+json",
        "jar": "application/java-archive", "jpeg": "image/jpeg", "jpg": "image/jpeg", "js": "text/javascript",
        "json": "application/json", "jsonl": "application/jsonl", "log": "text/plain", "md": "text/markdown",
        "mjs": "text/javascript", "mov": "video/quicktime", "mp3": "audio/mpeg", "mp4": "video/mp4",
        "mpeg": "video/mpeg", "ndjson": "application/x-ndjson", "ogg": "audio/ogg", "orc": "application/vnd.apache.orc",
        "parquet": "application/vnd.apache.parquet", "pdf": "application/pdf", "png": "image/png",
        "proto": "text/plain", "py": "text/x-python", "sh": "application/x-sh", "sql": "application/sql",
        "svg": "image/svg+xml", "tar": "application/x-tar", "tgz": "application/gzip", "tif": "image/tiff",
        "tiff": "image/tiff", "toml": "application/toml", "tsv": "text/tab-separated-values", "txt": "text/plain",
        "wasm": "application/wasm", "wav": "audio/wav", "webm": "video/webm", "webp": "image/webp",
        "woff": "font/woff", "woff2": "font/woff2", "xls": "application/vnd.ms-excel",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xml": "application/xml",
        "yaml": "application/yaml", "yml": "application/yaml", "zip": "application/zip", "zst": "application/zstd",
    ]

    static func of(_ path: ByteString) -> String {
        let name = path.bytes.split(separator: UInt8(ascii: "/")).last ?? []
        guard let dot = name.lastIndex(of: UInt8(ascii: ".")), dot > name.startIndex, name.endIndex - dot <= 9 else {
            return unknown
        }
        return bySuffix[String(decoding: name[(dot + 1)...], as: UTF8.self).lowercased()] ?? unknown
    }
}
