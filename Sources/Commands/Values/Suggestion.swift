/// Finds what the user probably meant.
enum Suggestion {
    /// The candidate with the fewest edits from `word`, when it is close enough not to mislead.
    static func closest(to word: String, among candidates: some Sequence<String>) -> String? {
        let wanted = normalized(word)
        var best: (candidate: String, distance: Int)?
        for candidate in candidates {
            let distance = distance(wanted, normalized(candidate))
            if distance < best?.distance ?? Int.max { best = (candidate, distance) }
        }
        guard let best, best.distance <= (wanted.count < 4 ? 1 : max(2, wanted.count / 3)) else { return nil }
        return best.candidate
    }

    /// "did you mean X?", or the list of what there is.
    static func hint(for word: String, among candidates: [String]) -> String {
        if let closest = closest(to: word, among: candidates) { return "did you mean \(closest)?" }
        return "there are: \(candidates.joined(separator: ", "))"
    }

    // metadata_ttl, metadata-ttl and metadataTTL are one word to a person.
    private static func normalized(_ word: String) -> [Character] {
        Array(word.lowercased().filter { $0 != "-" && $0 != "_" })
    }

    /// Levenshtein distance.
    private static func distance(_ left: [Character], _ right: [Character]) -> Int {
        var row = Array(0...right.count)
        for (index, character) in left.enumerated() {
            var diagonal = row[0]
            row[0] = index + 1
            for column in right.indices {
                let substitution = diagonal + (right[column] == character ? 0 : 1)
                diagonal = row[column + 1]
                row[column + 1] = min(substitution, row[column] + 1, row[column + 1] + 1)
            }
        }
        return row[right.count]
    }
}
