//! golden-deployer is the golden guest of the point deployer: it deploys the documents of files
//! that end in .golden.yaml.

use cleat::messages::{DeployRequest, DeployResult};
use cleat::plan::Deployer;
use cleat::{render, Plugin, Result, Start};

cleat::manifest!("../manifest.json");
cleat::plugin!(Golden: deployer);

struct Golden;

impl Plugin for Golden {
    fn start(_: &Start) -> Result<Golden> {
        Ok(Golden)
    }
}

impl Deployer for Golden {
    fn render(&self, request: DeployRequest) -> Result<Option<DeployResult>> {
        if !request.file.ends_with(".golden.yaml") {
            return Ok(None);
        }
        let mut result = DeployResult {
            objects: render::yaml(&request.content)?,
            ..Default::default()
        };
        result.objects.retain(|document| !document.json().is_null());
        if result.objects.is_empty() {
            result.warnings.push(request.file + ": has no objects");
        }
        Ok(Some(result))
    }
}

#[cfg(test)]
mod tests;
