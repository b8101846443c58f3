// Compiles an AngelScript file against stubs of what TMInterface offers to plugins: names, arguments and types are
// checked, nothing runs. The stubs are our reading of public plugins. Exit status 0: it compiles.

#include <angelscript.h>
#include <angelscript/scriptarray.h>
#include <angelscript/scriptbuilder.h>
#include <angelscript/scriptstdstring.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

#ifdef AS_USE_NAMESPACE
using namespace AngelScript;
#endif

static void never(asIScriptGeneric *) { std::abort(); }

static asIScriptEngine *engine;

static void check(int result, const std::string &declaration) {
    if (result < 0) {
        std::fprintf(stderr, "stub: %s\n", declaration.c_str());
        std::exit(3);
    }
}

static void function(const char *declaration) {
    check(engine->RegisterGlobalFunction(declaration, asFUNCTION(never), asCALL_GENERIC), declaration);
}

static void method(const char *type, const char *declaration) {
    check(engine->RegisterObjectMethod(type, declaration, asFUNCTION(never), asCALL_GENERIC), declaration);
}

static void reference(const char *type) { check(engine->RegisterObjectType(type, 0, asOBJ_REF | asOBJ_NOCOUNT), type); }

static void made(const char *type, const char *factory) {
    check(engine->RegisterObjectBehaviour(type, asBEHAVE_FACTORY, factory, asFUNCTION(never), asCALL_GENERIC), factory);
}

static void within(const char *name) { check(engine->SetDefaultNamespace(name), name); }

static void choice(const char *type, std::initializer_list<const char *> values) {
    check(engine->RegisterEnum(type), type);
    int number = 0;
    for (const char *value : values) check(engine->RegisterEnumValue(type, value, number++), value);
}

static void offer() {
    method("array<T>", "uint get_Length() const property");
    method("string", "uint get_Length() const property");

    within("Net");
    reference("Socket");
    made("Socket", "Socket@ f()");
    method("Socket", "bool Listen(const string &in host, uint16 port)");
    method("Socket", "Socket@ Accept(uint timeout = 0)");
    method("Socket", "uint get_Available() const property");
    method("Socket", "void set_NoDelay(bool) property");
    method("Socket", "string get_RemoteIP() const property");
    method("Socket", "uint8 ReadUint8()");
    method("Socket", "int ReadInt32()");
    method("Socket", "uint ReadUint32()");
    method("Socket", "float ReadFloat()");
    method("Socket", "string ReadString(uint length)");
    method("Socket", "array<uint8>@ ReadBytes(uint length)");
    method("Socket", "bool Write(int)");
    method("Socket", "bool Write(float)");
    method("Socket", "bool Write(const string &in)");
    method("Socket", "bool Write(const array<uint8>@)");

    within("Time");
    function("uint64 get_Now() property");

    within("TM");
    choice("GameState", {"StartUp", "Menus", "LocalRace"});
    reference("PlayerInfo");
    method("PlayerInfo", "bool get_RaceFinished() const property");
    reference("InputEventBuffer");
    method("InputEventBuffer", "string ToCommandsText() const");

    within("");
    check(engine->RegisterObjectType("vec2", 8, asOBJ_VALUE | asOBJ_POD), "vec2");
    check(engine->RegisterObjectBehaviour("vec2", asBEHAVE_CONSTRUCT, "void f(float, float)", asFUNCTION(never),
                                          asCALL_GENERIC), "vec2");
    within("Graphics");
    function("array<uint8>@ CaptureScreenshot(const vec2 &in)");
    within("");

    choice("InputType", {"Down", "Up", "Left", "Right", "Steer", "Gas", "Respawn"});
    choice("CommandListProcessOption", {"OnlyParse", "QueueAndExecute", "ExecuteImmediately"});
    reference("CommandList");
    made("CommandList", "CommandList@ f()");
    method("CommandList", "void set_Content(const string &in) property");
    method("CommandList", "void Process(CommandListProcessOption = CommandListProcessOption::QueueAndExecute)");
    reference("SimulationState");
    made("SimulationState", "SimulationState@ f(const array<uint8>@)");
    method("SimulationState", "const array<uint8>@ ToArray() const");
    reference("SimulationManager");
    for (const char *declaration :
         {"int get_RaceTime() const property", "int get_TickTime() const property", "bool get_InRace() const property",
          "TM::PlayerInfo@ get_PlayerInfo() const property", "TM::InputEventBuffer@ get_InputEvents() const property",
          "SimulationState@ SaveState()", "void RewindToState(SimulationState@)", "void SetSpeed(float)",
          "void SetInputState(InputType, int)", "void GiveUp()", "void PreventSimulationFinish()",
          "void ResetCamera()"})
        method("SimulationManager", declaration);
    reference("PluginInfo");
    made("PluginInfo", "PluginInfo@ f()");
    for (const char *declaration : {"void set_Name(const string &in) property", "void set_Author(const string &in) property",
                                    "void set_Version(const string &in) property",
                                    "void set_Description(const string &in) property"})
        method("PluginInfo", declaration);

    check(engine->RegisterFuncdef("void OnCommand(int, int, const string &in, const array<string> &in)"), "OnCommand");
    for (const char *declaration :
         {"void log(const string &in)", "void RegisterVariable(const string &in, double)",
          "double GetVariableDouble(const string &in)",
          "void RegisterCustomCommand(const string &in, const string &in, OnCommand@)",
          "void ExecuteCommand(const string &in)", "TM::GameState GetCurrentGameState()",
          "SimulationManager@ GetSimulationManager()", "void ToggleRaceInterface(bool)"})
        function(declaration);
}

static void tell(const asSMessageInfo *message, void *) {
    const char *kinds[] = {"error", "warning", "note"};
    std::printf("%s:%d:%d: %s: %s\n", message->section, message->row, message->col, kinds[message->type], message->message);
}

int main(int count, char **arguments) {
    if (count < 2) return 2;
    engine = asCreateScriptEngine();
    engine->SetMessageCallback(asFUNCTION(tell), nullptr, asCALL_CDECL);
    RegisterScriptArray(engine, true);
    RegisterStdString(engine);
    offer();
    CScriptBuilder builder;
    if (builder.StartNewModule(engine, "plugin") < 0 || builder.AddSectionFromFile(arguments[1]) < 0) return 2;
    int result = builder.BuildModule();
    if (result < 0) return 1;
    for (int i = 2; i < count; ++i) {
        if (!engine->GetModule("plugin")->GetFunctionByDecl(arguments[i])) {
            std::printf("error: no function %s\n", arguments[i]);
            return 1;
        }
    }
    return 0;
}
