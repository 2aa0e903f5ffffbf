/**
 * The Homebrew formula of the released files: one for each system and processor that there is a file for.
 * It must not know where releases are: whoever makes one names the address.
 *
 * @module
 */
import { digestFile } from "../../vm/base/digest.ts";
import { usageError } from "../../vm/base/error.ts";
import { ownVersion } from "../../vm/store/builder.ts";
import { platformOf, type Target } from "./runtime.ts";

/**
 * The formula's text.
 *
 * @param files The file of each target, by whose name it lies below `base`.
 * @param base An https address of a folder.
 * @throws GatewayError `usage` for an address that Homebrew would not take.
 */
export async function formulaText(
  files: Readonly<Partial<Record<Target, string>>>,
  base: string,
): Promise<string> {
  if (!/^https:\/\/[\w.-]+(:\d+)?(\/[\w./~%+-]*)?$/.test(base)) {
    throw usageError(
      `Cannot write a formula for "${base}"`,
      "it is not an https address of a folder",
      "name the place that the files of dist/release can be downloaded from",
    );
  }
  const folder = base.replace(/\/$/, "");
  const blocks = await Promise.all(
    Object.entries(files).map(async ([target, path]) => {
      const { os, arch } = platformOf(target as Target);
      return `  on_${os === "darwin" ? "macos" : "linux"} do
    on_${arch === "arm64" ? "arm" : "intel"} do
      url "${folder}/${path.split("/").at(-1)}"
      sha256 "${await digestFile(path)}"
    end
  end
`;
    }),
  );
  return `class Gateway < Formula
  desc "Whole Kubernetes cluster in one microVM"
  homepage "${new URL(base).origin}"
  version "${await ownVersion()}"
  license "Apache-2.0"

${blocks.join("\n")}
  on_macos do
    depends_on "libkrun/krun/libkrun"
  end

  on_linux do
    depends_on "qemu"
  end

  def install
    bin.install Dir["*"].first => "gateway"
    generate_completions_from_executable(bin/"gateway", "completions", shells: [:bash, :zsh, :fish])
    (man1/"gateway.1").write Utils.safe_popen_read(bin/"gateway", "man")
  end

  test do
    assert_match "gateway #{version}", shell_output("#{bin}/gateway --version")
  end
end
`;
}
