//! Certificates as PEM text, as both trust bundles and issued chains carry them.

use x509_parser::pem::Pem;

/// The certificates (DER) that a text holds, in order.
///
/// # Errors
/// What is wrong with the first block that is none: another type, headers, or broken.
pub fn certificates(text: &str) -> Result<Vec<Pem>, String> {
    let mut found = Vec::new();
    for (index, block) in Pem::iter_from_buffer(text.as_bytes()).enumerate() {
        let block = block.map_err(|e| format!("entry {index} is no PEM block: {e}"))?;
        if block.label != "CERTIFICATE" {
            return Err(format!("entry {index} has bad block type: {}", block.label));
        }
        found.push(block);
    }
    if has_headers(text) {
        return Err("PEM blocks may not have headers".into());
    }
    Ok(found)
}

/// Headers (RFC 1421 §4.6) are lines with a colon inside a block; base64 has none.
fn has_headers(text: &str) -> bool {
    let mut inside = false;
    text.lines().any(|line| {
        if line.starts_with("-----BEGIN ") {
            inside = true;
        } else if line.starts_with("-----END ") {
            inside = false;
        }
        inside && line.contains(':') && !line.starts_with("-----")
    })
}
