"""Pure: the completion scripts of the four shells, and what help says about each.

Every one does the same: hand the words up to the cursor to the program's `__complete`, show what it answers, and offer files when it answers
nothing and does not forbid them. They need nothing but the shell.
"""

SHELLS = ("bash", "fish", "powershell", "zsh")

_BASH = r"""# bash completion for @NAME@

__@NAME@_complete()
{
    # The words as typed: bash itself also splits at = and :, which are parts of ours.
    local typed=${COMP_LINE:0:COMP_POINT} line directive longest=0 words=() found=()
    read -ra words <<<"$typed"
    [[ $typed == *[[:space:]] ]] && words+=("")
    while IFS= read -r line; do
        found+=("$line")
    done < <("${words[0]}" @QUESTION@ "${words[@]:1}" 2>/dev/null)
    COMPREPLY=()
    ((${#found[@]})) || return
    directive=${found[${#found[@]} - 1]#:}
    unset "found[${#found[@]} - 1]"
    if ((directive & 4)); then
        compopt +o default
    fi
    if ((${#found[@]} == 1)); then
        COMPREPLY=("${found[0]%%$'\t'*}")
        return
    fi
    for line in "${found[@]}"; do
        line=${line%%$'\t'*}
        ((${#line} > longest)) && longest=${#line}
    done
    for line in "${found[@]}"; do
        if [[ $line == *$'\t'* ]]; then
            printf -v line "%-${longest}s  (%s)" "${line%%$'\t'*}" "${line#*$'\t'}"
        fi
        COMPREPLY+=("$line")
    done
}

complete -o default -F __@NAME@_complete @NAME@
"""

_ZSH = r"""#compdef @NAME@

_@NAME@()
{
    local line
    local -a answer candidates
    answer=("${(@f)$("${(@Q)words[1]}" @QUESTION@ "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    for line in "${(@)answer[1,-2]}"; do
        candidates+=("${${line%%$'\t'*}//:/\\:}${${line:#^*$'\t'*}:+:${line#*$'\t'}}")
    done
    if (($#candidates)); then
        _describe completions candidates
    elif ((!(${answer[-1]#:} & 4))); then
        _files
    fi
}

# Either this file is the function (found in $fpath), or it is sourced.
if [[ ${funcstack[1]} == _@NAME@ ]]; then
    _@NAME@ "$@"
elif (($+functions[compdef])); then
    compdef _@NAME@ @NAME@
fi
"""

_FISH = r"""# fish completion for @NAME@

function __@NAME@_complete
    set -l words (commandline -opc)
    set -l begun (commandline -ct)
    set -l answer ($words[1] @QUESTION@ $words[2..-1] "$begun" 2>/dev/null)
    if test (count $answer) -gt 1
        printf '%s\n' $answer[1..-2]
    else if test "$answer[1]" = ":0"
        __fish_complete_path "$begun"
    end
end

complete --command @NAME@ --erase
complete --command @NAME@ --no-files --arguments '(__@NAME@_complete)'
"""

_POWERSHELL = r"""# powershell completion for @NAME@

Register-ArgumentCompleter -Native -CommandName '@NAME@' -ScriptBlock {
    param($begun, $line, $cursor)
    $words = @($line.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object { $_.ToString() })
    $program, $rest = $words
    # An empty argument gets lost on its way to a program before PowerShell 7.3.
    $empty = if ($PSVersionTable.PSVersion -lt [version]'7.3.0' -or $PSNativeCommandArgumentPassing -eq 'Legacy') { '""' } else { '' }
    $last = if ($begun -eq '') { $empty } else { $begun }
    $answer = @(& $program @QUESTION@ @rest $last 2>$null)
    foreach ($each in ($answer | Select-Object -SkipLast 1)) {
        $name, $text = $each.Split("`t", 2)
        if (-not $text) { $text = $name }
        [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', $text)
    }
}
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH, "powershell": _POWERSHELL}


def script(shell: str, name: str, question: str) -> str:
    return _SCRIPTS[shell].replace("@NAME@", name).replace("@QUESTION@", question)


_SESSION = "To load completions in your current shell session:"
_EVERY = "To load completions for every new session, execute once:"
_RESTART = "You will need to start a new shell for this setup to take effect."
_EXPLANATIONS = {
    "bash": f"""Generate the autocompletion script for the bash shell.

This script depends on the 'bash-completion' package.
If it is not installed already, you can install it via your OS's package manager.

{_SESSION}

	source <(@NAME@ completion bash)

{_EVERY}

#### Linux:

	@NAME@ completion bash > /etc/bash_completion.d/@NAME@

#### macOS:

	@NAME@ completion bash > $(brew --prefix)/etc/bash_completion.d/@NAME@

{_RESTART}""",
    "zsh": f"""Generate the autocompletion script for the zsh shell.

If shell completion is not already enabled in your environment you will need
to enable it.  You can execute the following once:

	echo "autoload -U compinit; compinit" >> ~/.zshrc

{_SESSION}

	source <(@NAME@ completion zsh); compdef _@NAME@ @NAME@

{_EVERY}

#### Linux:

	@NAME@ completion zsh > "${{fpath[1]}}/_@NAME@"

#### macOS:

	@NAME@ completion zsh > $(brew --prefix)/share/zsh/site-functions/_@NAME@

{_RESTART}""",
    "fish": f"""Generate the autocompletion script for the fish shell.

{_SESSION}

	@NAME@ completion fish | source

{_EVERY}

	@NAME@ completion fish > ~/.config/fish/completions/@NAME@.fish

{_RESTART}""",
    "powershell": f"""Generate the autocompletion script for powershell.

{_SESSION}

	@NAME@ completion powershell | Out-String | Invoke-Expression

To load completions for every new session, add the output of the above command
to your powershell profile.""",
}


def explanation(shell: str, name: str) -> str:
    """The DESCRIPTION of `help completion SHELL`."""
    return _EXPLANATIONS[shell].replace("@NAME@", name)
