//! Verifying every digest and reference of the store.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::io::Read;

use sha2::Digest as _;
use sha2::Sha256;

use super::Store;
use super::StoreError;
use crate::digest::DiffId;
use crate::digest::Digest;
use crate::index::Index;
use crate::layer::Layer;

/// Something in the store that is not as it should be.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What is wrong: the layer, stack or object.
    pub subject: String,
    /// How.
    pub fault: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.fault)
    }
}

impl Store {
    /// Verifies every layer against its diff ID, every object against its name, every stack against its layers.
    pub fn check(&self) -> Result<Vec<Fault>, StoreError> {
        let mut faults = Vec::new();
        let mut present = HashSet::new();
        for layer in self.layers()? {
            present.insert(layer);
            if let Err(fault) = self.check_layer(layer) {
                faults.push(Fault {
                    subject: format!("layer {layer}"),
                    fault,
                });
            }
        }
        for chain in self.stacks()? {
            let subject = format!("stack {chain}");
            match Index::open(&self.stack_path(&chain)) {
                Err(error) => faults.push(Fault {
                    subject,
                    fault: error.to_string(),
                }),
                Ok(index) => {
                    for layer in index.layers() {
                        let layer = DiffId(Digest(*layer));
                        if !present.contains(&layer) {
                            let fault = format!("refers to layer {layer}, which is not here");
                            faults.push(Fault {
                                subject: subject.clone(),
                                fault,
                            });
                        }
                    }
                }
            }
        }
        Ok(faults)
    }

    fn check_layer(&self, diff_id: DiffId) -> Result<(), String> {
        let layer = Layer::open(self, diff_id).map_err(|error| error.to_string())?;
        for object in layer.object_digests() {
            let path = self.object_path(&object);
            if !path.exists() {
                return Err(format!("object {} is missing", path.display()));
            }
        }
        let found = digest_of(layer.tar()).map_err(|error| error.to_string())?;
        if found != diff_id.0 {
            let object = self.damaged_object(&layer);
            return Err(match object {
                Some(object) => format!("object {object} is damaged"),
                None => format!("its tar has digest {found}"),
            });
        }
        Ok(())
    }

    /// Finds the object whose bytes are not those of its name; sparse ones are only checked as part of their layer.
    fn damaged_object(&self, layer: &Layer) -> Option<String> {
        layer.plain_object_digests().find_map(|object| {
            let path = self.object_path(&object);
            let found = std::fs::File::open(&path).and_then(digest_of);
            (found.ok() != Some(object)).then(|| path.display().to_string())
        })
    }
}

fn digest_of(mut from: impl Read) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(Digest(hasher.finalize().into())),
            length => hasher.update(&buffer[..length]),
        }
    }
}
