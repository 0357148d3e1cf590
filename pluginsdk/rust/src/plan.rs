//! The extension points that are asked seldom and answer with a plan: deployer, cni and datastore.
//! An answer of `None` leaves the question to the next plugin.

use crate::abi;
use crate::host;
use crate::json::{Json, ToJson};
use crate::message::Field;
use crate::messages::{
    CNIPlan, CNIRequest, DatastorePlan, DatastoreRequest, DeployRequest, DeployResult,
};
use crate::{Errno, Error, Result};

/// The point deployer: what a file of the manifests directory holds.
pub trait Deployer {
    /// Turns a file into objects.
    fn render(&self, request: DeployRequest) -> Result<Option<DeployResult>>;
}

/// The point cni: how pods reach each other.
pub trait Cni {
    /// Plans the network of a node.
    fn plan(&self, request: CNIRequest) -> Result<Option<CNIPlan>>;
}

/// The point datastore: where cluster state lives.
pub trait Datastore {
    /// Plans the datastore of a server.
    fn plan(&self, request: DatastoreRequest) -> Result<Option<DatastorePlan>>;
}

/// Runs a hook.
pub(crate) fn decide<Q: Field, A: ToJson>(handler: impl FnOnce(Q) -> Result<Option<A>>) -> i32 {
    match request().and_then(handler).and_then(answer) {
        Ok(result) => result,
        Err(e) => e.tell(),
    }
}

fn request<Q: Field>() -> Result<Q> {
    let input = host::fill(4096, &|buf| abi::input_get(buf))
        .map_err(|errno| Error::host(errno, "read the request", ""))?;
    Ok(Q::read(
        Json::from_bytes(&input).map_err(|e| e.within("decode the request"))?,
    ))
}

fn answer<A: ToJson>(plan: Option<A>) -> Result<i32> {
    let plan = match plan {
        Some(plan) => plan,
        None => return Ok(abi::NOT_MINE),
    };
    let mut output = String::new();
    plan.write(&mut output);
    match abi::output_set(output.as_bytes()) {
        n if n < 0 => Err(Error::host(Errno(n), "hand over the plan", "")),
        _ => Ok(abi::DECIDED),
    }
}
