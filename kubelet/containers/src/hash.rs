//! The hash that tells whether a container was made from the present spec. It covers name and image, the only fields
//! that may change in place, and equals upstream's, so a swap of kubelets restarts nothing.

use k8s_openapi::api::core::v1::Container;

/// FNV-1a, 32 bits, of the JSON's bytes printed in Go's `%#v` form.
pub fn of(container: &Container) -> u32 {
    let json = serde_json::json!({"image": container.image.as_deref().unwrap_or_default(), "name": container.name});
    let bytes: Vec<String> = json.to_string().bytes().map(|byte| byte.to_string()).collect();
    fnv1a(format!("([]uint8)[{}]", bytes.join(" ")).as_bytes())
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_upstreams() {
        let container =
            Container { name: "test_container".into(), image: Some("foo/image:v1".into()), ..Default::default() };
        assert_eq!(of(&container), 0x8e45_cbd0);
    }
}
