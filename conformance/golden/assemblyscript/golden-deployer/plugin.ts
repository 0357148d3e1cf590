// golden-deployer is the golden guest of the point deployer: it deploys the
// documents of files that end in .golden.yaml.

import { onRender } from "cleat/deployer";
import { Json } from "cleat/json";
import { JsonWriter } from "cleat/jsonwriter";
import { renderYamlBytes } from "cleat/render";

export { cleat_abi_1, cleat_init } from "cleat/plugin";
export { cleat_deployer_render } from "cleat/deployer";

onRender(render);

function render(request: Json, result: JsonWriter): bool {
  const file = request.get("file").text();
  if (!file.endsWith(".golden.yaml")) return false;
  const documents = renderYamlBytes(request.get("content").bytes()).items();
  let count = 0;
  result.object().key("objects").array();
  for (let i = 0; i < documents.length; i++) {
    if (documents[i].isNull) continue;
    result.json(documents[i]);
    count++;
  }
  result.end();
  if (!count) result.key("warnings").array().text(file + ": has no objects").end();
  result.end();
  return true;
}
