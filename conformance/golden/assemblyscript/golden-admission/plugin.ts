// golden-admission is the golden guest of the point admission: pods take tagged
// images from the registries that are allowed.

import { Path, Request, SINGLE, onMutate, onValidate } from "cleat/admission";
import { config, fail, onInit } from "cleat/plugin";

export { cleat_abi_1, cleat_init } from "cleat/plugin";
export { cleat_admission_mutate, cleat_admission_validate } from "cleat/admission";

const labels = new Path("metadata.labels");
const checked = new Path("metadata.labels['golden.cleat.dev/checked']");

/** One of the lists of containers in a pod. */
class ImageList {
  readonly images: Path;

  constructor(readonly field: string) {
    this.images = new Path(field + "[*].image");
  }
}

const lists = [new ImageList("spec.initContainers"), new ImageList("spec.containers")];

let registries: string[] = [];
let teamLabel = "";

onInit(start);
onMutate(mutate);
onValidate(validate);

function start(): void {
  const settings = config();
  registries = settings.get("registries").texts();
  teamLabel = settings.get("team_label").text();
  if (!registries.length) fail("registries: is empty; name at least one registry");
}

function mutate(r: Request): void {
  if (r.get(checked).isNull) r.setText(checked, SINGLE, "true");
}

function validate(r: Request): void {
  let count = 0;
  for (let l = 0; l < lists.length; l++) {
    const images = r.get(lists[l].images).texts();
    for (let i = 0; i < images.length; i++) {
      const wrong = wrongWith(images[i]);
      if (wrong.length) {
        r.deny(`${lists[l].field}[${i}].image: ${wrong}`);
        return;
      }
    }
    count += images.length;
  }
  r.audit("images", count.toString());
  if (teamLabel.length && r.get(labels).json().get(teamLabel).isNull) {
    r.warn(`metadata.labels: has no label "${teamLabel}"; add one`);
  }
}

/** Says what is wrong with an image, "" if nothing. */
function wrongWith(image: string): string {
  if (!image.length) return "has no image; name one";
  if (!isAllowed(image)) {
    return `"${image}" is not from an allowed registry; use one of ${registries.join(", ")}`;
  }
  const name = image.substring(image.lastIndexOf("/") + 1);
  if (name.includes("@")) return "";
  const colon = name.lastIndexOf(":");
  if (colon < 0) return `"${image}" has no tag; add one, such as :1.0`;
  if (name.substring(colon + 1) == "latest") return `"${image}" is tagged latest; name a version`;
  return "";
}

function isAllowed(image: string): bool {
  for (let i = 0; i < registries.length; i++) {
    const registry = registries[i];
    if (image.startsWith(registry) && image.startsWith("/", registry.length)) return true;
  }
  return false;
}
