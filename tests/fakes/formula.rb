# Loads a formula as Homebrew would read it, with just enough of Homebrew's words to see what it says and does.
# Arguments: the formula, and where it is to be installed a folder with the downloaded file and one to install into.
# FORMULA_SYSTEM is the system and the processor in Homebrew's words, such as "linux arm".
require "fileutils"
require "pathname"

module Utils
  def self.safe_popen_read(*words)
    IO.popen(words.map(&:to_s), &:read)
  end
end

class Formula
  class << self
    attr_reader :facts
    def inherited(base)
      base.instance_variable_set(:@facts, {})
    end
    %i[desc homepage url version sha256 license depends_on].each do |name|
      define_method(name) { |*values| values.empty? ? @facts[name] : @facts[name] = values.first }
    end
    %i[macos linux arm intel].each do |word|
      define_method("on_#{word}") { |&block| block.call if ENV["FORMULA_SYSTEM"].split.include?(word.to_s) }
    end
    def test(&block)
      @facts[:test] = block
    end
  end

  def initialize(prefix)
    @prefix = Pathname(prefix)
  end

  def bin
    folder("bin")
  end

  def man1
    folder("share/man/man1")
  end

  def version
    self.class.version
  end

  def generate_completions_from_executable(program, *words, shells:)
    shells.each do |shell|
      folder("completions").join(shell.to_s).write(Utils.safe_popen_read(program, *words, shell))
    end
  end

  def shell_output(line)
    `#{line}`
  end

  def assert_match(wanted, text)
    raise "#{wanted} is not in #{text}" unless text.include?(wanted)
  end

  private

  def folder(name)
    path = @prefix / name
    path.mkpath
    def path.install(map)
      map.each { |from, to| FileUtils.cp(from, self / to) }
    end
    path
  end
end

load ARGV[0]
if ARGV.length > 1
  formula = Gateway.new(ARGV[2])
  Dir.chdir(ARGV[1]) { formula.install }
  formula.instance_eval(&Gateway.facts[:test])
end
Gateway.facts.each { |name, value| puts "#{name} #{value}" unless name == :test }
