//! Helper: reads the manifests of `deploy/kubernetes` and puts them together as kustomize does, as far as they use it.

use std::fs;
use std::path::{Path, PathBuf};

use json_patch::Patch;
use serde_json::{Value, json};

/// The folder of the manifests.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

/// The objects of a folder with a `kustomization.yaml`.
pub(crate) fn rendered(folder: &Path) -> Vec<Value> {
    let [customization] = &read(&folder.join("kustomization.yaml"))[..] else {
        panic!("{} has several documents", folder.display());
    };
    for name in customization.as_object().unwrap().keys() {
        let is_known =
            ["apiVersion", "kind", "namespace", "resources", "patches"].contains(&&**name);
        assert!(is_known, "teach this module what `{name}` of {} does", folder.display());
    }
    let mut objects = Vec::new();
    for resource in list(&customization["resources"]) {
        let path = folder.join(resource.as_str().unwrap());
        objects.extend(if path.is_dir() { rendered(&path) } else { read(&path) });
    }
    if let Some(namespace) = customization["namespace"].as_str() {
        for object in objects.iter_mut().filter(|it| it["kind"] != "Namespace") {
            object["metadata"]["namespace"] = json!(namespace);
        }
    }
    apply(&mut objects, list(&customization["patches"]));
    objects
}

/// Changes the objects by these patches.
pub(crate) fn apply(objects: &mut [Value], patches: &[Value]) {
    for patch in patches {
        let operations = parse(patch["patch"].as_str().unwrap()).remove(0);
        let operations: Patch = serde_json::from_value(operations).unwrap();
        let target = &patch["target"];
        let mut of_target = objects
            .iter_mut()
            .filter(|it| it["kind"] == target["kind"] && it["metadata"]["name"] == target["name"]);
        let object = of_target.next().expect("the patch has a target");
        json_patch::patch(object, &operations).unwrap();
    }
}

/// The documents of a file.
pub(crate) fn read(file: &Path) -> Vec<Value> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    parse(&text)
}

/// The documents of a text.
pub(crate) fn parse(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The items of a list, and none of what is absent.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The only object of this kind and name.
pub(crate) fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found =
        objects.iter().filter(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.next().unwrap_or_else(|| panic!("there is no {kind} {name}"))
}
