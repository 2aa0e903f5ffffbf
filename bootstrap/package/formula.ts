/**
 * The Homebrew formula of a released file.
 * It must not know where releases are: whoever makes one names the address.
 *
 * @module
 */
import { digestFile } from "../../vm/base/digest.ts";
import { usageError } from "../../vm/base/error.ts";
import { ownVersion } from "../../vm/store/builder.ts";

/** The formula's text. @throws GatewayError `usage` for an address that Homebrew would not take. */
export async function formulaText(file: string, url: string): Promise<string> {
  if (!/^https:\/\/[\w.-]+(:\d+)?\/[\w./~%+-]+$/.test(url)) {
    throw usageError(
      `Cannot write a formula for "${url}"`,
      "it is not an https address of a file",
      "name the place that dist/gateway can be downloaded from",
    );
  }
  return `class Gateway < Formula
  desc "Whole Kubernetes cluster in one microVM"
  homepage "${new URL(url).origin}"
  url "${url}"
  version "${await ownVersion()}"
  sha256 "${await digestFile(file)}"
  license "Apache-2.0"

  depends_on "qemu"

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
