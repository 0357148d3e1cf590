//! golden-admission is the golden guest of the point admission: pods take tagged images from the
//! registries that are allowed.

use cleat::admission::{Mutate, Path, Request, Validate};
use cleat::{Plugin, Result, Start};

cleat::manifest!("../manifest.json");
cleat::plugin!(Golden: mutate, validate);

/// The configuration, and the fields that the policy looks at.
struct Golden {
    registries: Vec<String>,
    team_label: String,
    labels: Path,
    checked: Path,
    images: [ImageList; 2],
}

/// One of the lists of containers in a pod.
struct ImageList {
    field: &'static str,
    path: Path,
}

impl ImageList {
    fn new(start: &Start, field: &'static str) -> Result<ImageList> {
        Ok(ImageList {
            field,
            path: start.path(&format!("{field}[*].image"))?,
        })
    }
}

impl Plugin for Golden {
    fn start(start: &Start) -> Result<Golden> {
        let config = cleat::config()?;
        let registries = config.get("registries").strings();
        if registries.is_empty() {
            return Err("registries: is empty; name at least one registry".into());
        }
        Ok(Golden {
            registries,
            team_label: config.get("team_label").text().unwrap_or_default().into(),
            labels: start.path("metadata.labels")?,
            checked: start.path("metadata.labels['golden.cleat.dev/checked']")?,
            images: [
                ImageList::new(start, "spec.initContainers")?,
                ImageList::new(start, "spec.containers")?,
            ],
        })
    }
}

impl Mutate for Golden {
    fn mutate(&self, r: &Request) -> Result<()> {
        if r.get(&self.checked).is_null() {
            r.set(&self.checked, "true");
        }
        Ok(())
    }
}

impl Validate for Golden {
    fn validate(&self, r: &Request) -> Result<()> {
        let mut count = 0;
        for list in &self.images {
            for (i, image) in r.get(&list.path).list().enumerate() {
                if let Err(wrong) = self.check(image.text().unwrap_or_default()) {
                    r.deny(&format!("{}[{i}].image: {wrong}", list.field));
                    return Ok(());
                }
                count += 1;
            }
        }
        r.audit("images", &count.to_string());
        if !self.team_label.is_empty() && !self.is_labelled(r) {
            r.warn(&format!(
                "metadata.labels: has no label \"{}\"; add one",
                self.team_label
            ));
        }
        Ok(())
    }
}

impl Golden {
    /// Says what is wrong with an image.
    fn check(&self, image: &str) -> std::result::Result<(), String> {
        if image.is_empty() {
            return Err("has no image; name one".into());
        }
        if !self
            .registries
            .iter()
            .any(|registry| is_from(image, registry))
        {
            let registries = self.registries.join(", ");
            return Err(format!(
                "\"{image}\" is not from an allowed registry; use one of {registries}"
            ));
        }
        let name = image.rsplit('/').next().unwrap_or_default();
        if name.contains('@') {
            return Ok(());
        }
        match name.rsplit_once(':') {
            None => Err(format!("\"{image}\" has no tag; add one, such as :1.0")),
            Some((_, "latest")) => Err(format!("\"{image}\" is tagged latest; name a version")),
            Some(_) => Ok(()),
        }
    }

    /// Whether the pod has the label of the team.
    fn is_labelled(&self, r: &Request) -> bool {
        let labels = r.get(&self.labels).json();
        labels.map_or(false, |labels| !labels.get(&self.team_label).is_null())
    }
}

fn is_from(image: &str, registry: &str) -> bool {
    image
        .strip_prefix(registry)
        .map_or(false, |rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
