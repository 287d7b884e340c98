import CLibXML
import Platform

/// Receives the elements of an XML document in their order.
protocol XMLElementHandler {
    /// - Parameter depth: 1 for the root.
    mutating func begin(_ name: String, depth: Int) throws(StoreError)
    /// - Parameter text: the character data directly inside the element, in pieces joined.
    mutating func end(_ name: String, depth: Int, text: [UInt8]) throws(StoreError)
}

/// Feeds a document, piece by piece, through libxml2's SAX2 push parser (xmlParseChunk) to a handler.
///
/// Made for documents from outside: a document type declaration (and with it every entity of its own) is refused,
/// nothing is loaded from anywhere, depth, text and size are bounded, and an unfinished document is an error. All
/// errors are `.protocolViolation`. One thread at a time.
final class XMLReader<Handler: XMLElementHandler> {
    private static var deepest: Int { 16 }
    private static var longestText: Int { 64 << 10 }

    /// What the handler has made of the document so far.
    private(set) var handler: Handler
    private let events = XMLEvents()
    private let context: xmlParserCtxtPtr
    private let sizeLimit: Int
    private var size = 0
    private var texts: [[UInt8]] = []

    /// - Parameter sizeLimit: bytes of the whole document.
    init(_ handler: Handler, sizeLimit: Int) throws(StoreError) {
        self.handler = handler
        self.sizeLimit = sizeLimit
        _ = XMLEvents.initialization
        var callbacks = XMLEvents.callbacks
        let target = Unmanaged.passUnretained(events).toOpaque()  // `events` lives as long as the context
        guard let context = xmlCreatePushParserCtxt(&callbacks, target, nil, 0, nil) else {
            throw StoreError(.inputOutput, "no memory for an XML parser")
        }
        self.context = context
        // NONET: never fetch anything. Entities are not expanded (no NOENT) and the limits of libxml2 stay on (no
        // HUGE).
        xmlCtxtUseOptions(
            context, CInt(XML_PARSE_NONET.rawValue | XML_PARSE_NOERROR.rawValue | XML_PARSE_NOWARNING.rawValue))
    }

    deinit { xmlFreeParserCtxt(context) }

    func feed(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        size += bytes.count
        guard size <= sizeLimit else { throw Self.violation("is longer than \(sizeLimit) bytes") }
        var offset = 0
        while offset < bytes.count {
            let count = min(bytes.count - offset, 1 << 20)
            let text = bytes.baseAddress!.advanced(by: offset).assumingMemoryBound(to: CChar.self)
            let code = xmlParseChunk(context, text, CInt(count), 0)
            try deliver(code)
            offset += count
        }
    }

    /// The document has come to its end.
    func finish() throws(StoreError) {
        guard size > 0 else { throw Self.violation("is empty") }
        try deliver(xmlParseChunk(context, nil, 0, 1))
        guard texts.isEmpty else { throw Self.violation("is truncated") }
    }

    private func deliver(_ code: CInt) throws(StoreError) {
        let batch = events.take()
        if let refusal = events.refusal { throw Self.violation(refusal) }
        guard code == 0 else { throw Self.violation("is not well-formed (libxml2 error \(code))") }
        for event in batch {
            switch event {
            case .begin(let name):
                guard texts.count < Self.deepest else { throw Self.violation("is nested too deeply") }
                texts.append([])
                try handler.begin(name, depth: texts.count)
            case .text(let bytes):
                guard !texts.isEmpty else { continue }
                guard texts[texts.count - 1].count + bytes.count <= Self.longestText else {
                    throw Self.violation("has an element of more than \(Self.longestText) bytes")
                }
                texts[texts.count - 1] += bytes
            case .end(let name):
                guard let text = texts.popLast() else { throw Self.violation("is malformed") }
                try handler.end(name, depth: texts.count + 1, text: text)
            }
        }
    }

    private static func violation(_ what: String) -> StoreError {
        StoreError(.protocolViolation, "the XML document of the store \(what)")
    }
}

/// What libxml2 called back during one chunk. The callbacks do nothing but note it, so that no error has to cross C.
private final class XMLEvents {
    enum Event {
        case begin(String)
        case text([UInt8])
        case end(String)
    }

    private var events: [Event] = []
    /// Why the document is not accepted, if so.
    private(set) var refusal: String?

    func take() -> [Event] {
        defer { events.removeAll(keepingCapacity: true) }
        return events
    }

    static let initialization: Void = xmlInitParser()

    static var callbacks: xmlSAXHandler {
        var handler = xmlSAXHandler()
        larder_xml_prepare(&handler)
        handler.startElementNs = { target, name, _, _, _, _, _, _, _ in
            guard let name else { return }
            XMLEvents.with(target) { $0.events.append(.begin(String(cString: name))) }
        }
        handler.endElementNs = { target, name, _, _ in
            guard let name else { return }
            XMLEvents.with(target) { $0.events.append(.end(String(cString: name))) }
        }
        handler.characters = { target, bytes, count in
            XMLEvents.with(target) {
                $0.events.append(.text(Array(UnsafeBufferPointer(start: bytes, count: Int(count)))))
            }
        }
        handler.cdataBlock = handler.characters
        handler.internalSubset = { target, _, _, _ in
            XMLEvents.with(target) { $0.refusal = "has a document type declaration" }
        }
        handler.reference = { target, _ in
            XMLEvents.with(target) { $0.refusal = "refers to an entity" }
        }
        handler.serror = { _, _ in }  // the code of xmlParseChunk says enough; without this libxml2 prints
        return handler
    }

    private static func with(_ target: UnsafeMutableRawPointer?, _ body: (XMLEvents) -> Void) {
        guard let target else { return }
        Unmanaged<XMLEvents>.fromOpaque(target)._withUnsafeGuaranteedRef(body)
    }
}
