//! What images have in common.

use std::collections::BTreeSet;
use std::collections::HashMap;

use layerfs::DiffId;
use runtime::Engine;
use runtime::image::Image;

/// Returns the bytes of each image's layers that other images have too.
pub(crate) fn shared_sizes(engine: &Engine, images: &[Image]) -> Vec<u64> {
    let mut users: HashMap<DiffId, usize> = HashMap::new();
    let own = |image: &Image| image.layers.iter().copied().collect::<BTreeSet<DiffId>>();
    for layer in images.iter().flat_map(own) {
        *users.entry(layer).or_default() += 1;
    }
    let size = |layer: &DiffId| {
        let layer = engine.store().layer(layer);
        layer.map_or(0, |layer| layer.content_size())
    };
    let shared = |image: &Image| {
        let layers = image.layers.iter().filter(|layer| users[*layer] > 1);
        layers.map(size).sum()
    };
    images.iter().map(shared).collect()
}
